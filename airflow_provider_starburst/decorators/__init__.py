"""Decorators: `@task.starburst_map`."""
