"""The bytes of a replica, whatever the protocol: local (below roots), http(s), root.

In goes the location of a file and the policy that says what may be read; out comes a `ByteSource`
that answers byte ranges. Nothing here knows what the bytes mean. May import model and
errors, grid for what is shown to hosts, and store for results of earlier requests and for files that
are closed while they are read.
"""
