"""What one process pickles for another: functions, values and exceptions, and what is set up around them."""
