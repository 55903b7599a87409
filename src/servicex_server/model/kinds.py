"""The closed vocabularies of the wire: states, formats, destinations, outcomes."""

from __future__ import annotations

from enum import StrEnum


class RequestState(StrEnum):
    """Where a request stands; values are the display strings that clients compare with."""

    SUBMITTED = "Submitted"
    PENDING_LOOKUP = "Pending Lookup"
    LOOKUP = "Lookup"
    RUNNING = "Running"
    COMPLETE = "Complete"
    FATAL = "Fatal"
    CANCELED = "Canceled"
    BAD_DATASET = "Bad Dataset"

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = frozenset(
    {RequestState.COMPLETE, RequestState.FATAL, RequestState.CANCELED, RequestState.BAD_DATASET}
)


class ResultFormat(StrEnum):
    """How results are encoded."""

    PARQUET = "parquet"
    ROOT_FILE = "root-file"
    ROOT_RNTUPLE = "root-rntuple"
    ARROW = "arrow"
    HDF5 = "hdf5"

    @property
    def extension(self) -> str:
        return _EXTENSIONS[self]


_EXTENSIONS = {
    ResultFormat.PARQUET: ".parquet",
    ResultFormat.ROOT_FILE: ".root",
    ResultFormat.ROOT_RNTUPLE: ".root",
    ResultFormat.ARROW: ".arrow",
    ResultFormat.HDF5: ".h5",
}

CLIENT_FORMATS = (ResultFormat.PARQUET, ResultFormat.ROOT_FILE, ResultFormat.ROOT_RNTUPLE)
"""What the official clients know. One request of another format makes them refuse a whole list."""


class ResultDestination(StrEnum):
    """Where results go."""

    OBJECT_STORE = "object-store"
    VOLUME = "volume"


class FileStatus(StrEnum):
    """Outcome of one file of a request."""

    SUCCESS = "success"
    FAILURE = "failure"


class LookupStatus(StrEnum):
    """How far the look-up of a dataset has come."""

    CREATED = "created"
    LOOKING = "looking"
    COMPLETE = "complete"
    DOES_NOT_EXIST = "does_not_exist"
    BAD_NAME = "bad_name"
    INTERNAL_FAILURE = "internal_failure"
