"""What goes from one to the other: a call's facts there; its reply, log records, events and transactions home."""
