"""The built wheel as users install it: each Python, each extra alone, the newest dependencies there are."""
