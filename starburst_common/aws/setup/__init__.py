"""A site made in an account, looked at, and taken away again: for who sets up; runs need none of this."""
