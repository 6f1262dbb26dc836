"""Connections in, starburst backends out."""
