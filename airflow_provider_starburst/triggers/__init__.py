"""Triggers: a run kept going while its task is deferred."""
