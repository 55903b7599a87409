"""From arrays to a finished result file: Parquet, TTree, RNTuple, Arrow, HDF5.

In go the outputs of a bound plan, chunk by chunk; out comes one file that appears under its name only
when it is complete.
"""
