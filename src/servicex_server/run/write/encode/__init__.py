"""From awkward arrays to Parquet bytes, without the file.

In go the rows of one chunk and the schema of the table; out come row groups: the pages of each column,
compressed, and what the footer says of them. Values are copied as they are (or split into byte streams,
or numbered by a dictionary); the levels of lists and options come straight from offsets and masks, once
for all columns that share them. Everything here is pure and may run in several threads at once.

May import numpy, awkward, pyarrow (for its schemas and for text), the compressors, and errors.
"""

from __future__ import annotations

from servicex_server.run.write.encode.options import ParquetOptions

__all__ = ["ParquetOptions"]
