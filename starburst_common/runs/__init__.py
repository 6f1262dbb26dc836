"""A run, from what was asked to its last answer: how it begins, is fed, kept going, read, ended and forgotten."""
