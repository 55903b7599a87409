"""From the bytes of a replica to columns: ROOT files, TTree and RNTuple.

In goes a `ByteSource`, out come a schema that a plan can be bound to and arrays of the columns it needs,
a bounded range of entries at a time. Only this package and `run.write` know uproot.
"""
