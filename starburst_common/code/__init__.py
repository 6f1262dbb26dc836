"""The user's code on its way: the function packed, modules bundled, files placed, large values shared."""
