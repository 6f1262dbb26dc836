"""What runs on a worker: the call of a task's function, and the contexts that it finds."""
