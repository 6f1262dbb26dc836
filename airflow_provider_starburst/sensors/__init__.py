"""Sensors: on runs that others began."""
