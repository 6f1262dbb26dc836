"""Workers that are all alike."""
