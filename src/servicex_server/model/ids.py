"""Ids as distinct types, so that a request's id cannot be passed where a file's is meant."""

from __future__ import annotations

from typing import NewType

RequestId = NewType("RequestId", str)
"""UUID4 in its usual text form; also the bucket name that clients see."""

DatasetId = NewType("DatasetId", int)
FileId = NewType("FileId", int)
"""Number of a file inside the database; starts at 1 (official sidecars take 0 for 'none')."""
