"""Links from a task to its run."""
