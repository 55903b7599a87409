"""Station 6: result objects. In: a finished local file and a key; out: its bytes, by range.

`protocol` is the port, `key` says what a key may look like, `open` makes the store that a URL names;
`backends` hold the implementations, `descriptor` a file that is open.
May import `model` and `errors`.
"""
