"""The parts of the RNTuple reader, in the order in which the bytes pass them.

`envelope` takes the metadata apart, `metadata` keeps it, `shape` says what a field is made of, `page` decodes
pages, `chunk` reads the columns of a range of entries, `assemble` wraps them as arrays. `generic` leaves to
uproot what these do not know. The format ("the specification" in this package) is described in ROOT's
sources, `tree/ntuple/doc/BinaryFormatSpecification.md`.
"""
