"""Starburst beside its peers on one machine: `python -m benchmarks` measures all and writes docs/performance.md."""
