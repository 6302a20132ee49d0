"""All that is asked of a graphics card, by one command: ``python -m benchmarks.gpu --all``.

Five parts, each a list of steps that write rows: ``correct`` (every product, kind, number type and
derivative against the float64 oracle), ``tune`` (launch sizes), ``layers`` and ``settings`` (paired
timings beside every installed peer and the limits of the card), ``counters`` (what ``ncu`` counts).
A file keeps what was done; the same command goes on where it was stopped.
"""
