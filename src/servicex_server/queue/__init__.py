"""Station 4: work at least once. In: units; out: the same units, leased to workers, until acknowledged.

`protocol` is the port; `transports` hold the implementations. May import `model` and `errors`.
"""
