"""The engine beside its peers: the same queries on the same files, interleaved in one run.

`python -m benchmarks.engine` makes the inputs (`inputs`, from the events that `events` draws), lets each way
of answering a query (`methods`) work in a process of its own (`process`), checks that all give the same rows
(`digest`), times them in turn (`timing`), asks for peak memory (`memory`) and for the cost of a small file
with many branches (`wide`), and writes tables and JSON (`report`). docs/performance.md explains the columns.
"""

from __future__ import annotations
