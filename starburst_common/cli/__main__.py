"""`python -m starburst_common.cli`: the `starburst` command where its script is not on the path."""

from starburst_common.cli import main

if __name__ == "__main__":
    main()
