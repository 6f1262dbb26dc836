"""Valid samples in, made by our own encoders; something like them, but wrong, out, to every decoder there is.

`targets.TARGETS` is the table: a name, samples, what reads them, and which errors that may raise. A target is quick in
the suite and long by `make fuzz`, or `python -m tests.fuzz --inputs 100000 --seed 7 --target wire`.
"""
