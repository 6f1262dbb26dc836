"""Calls submitted in, futures done: what the threads of an executor hold, which may outlive it."""
