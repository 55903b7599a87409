"""How many workers there are and where they run. In: settings of a worker; out: worker processes, supervised.

May import `queue`, `model` and `errors`; it starts workers by command and never imports `run`.
"""
