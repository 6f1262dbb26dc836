"""Maps on the test bed under random faults, for as long as asked: `python -m tests.soak`."""
