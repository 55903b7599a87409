"""Every error the server raises on purpose, as one tree.

The class docstring is the default message; the text tells the reader what to do next.
Which HTTP status a class becomes is decided in `api/errors.py` alone.

    ServicexError
    ├── InvalidRequest              the caller sent something we cannot serve (400)
    │   ├── QueryError              the selection text is at fault
    │   │   ├── QuerySyntaxError    it does not parse; carries the place in the text
    │   │   ├── UnsupportedQuery    it parses, but we do not (yet) execute it
    │   │   ├── UnknownName         a tree or branch that the file lacks; carries near names
    │   │   │   └── UnknownTree     none of the trees it names
    │   │   └── QueryTypeError      names exist, but the operation does not fit their types
    │   ├── UnknownCodegen          no such code generator here
    │   ├── SourceRefused           an input this server may not read (root, private address, scheme)
    │   └── FormatError             the result does not fit the asked output format
    ├── NotFound                    no such request, dataset or object (404)
    ├── NotAllowed                  the caller may not do this (403)
    ├── NotAuthenticated            no or wrong credentials (401)
    ├── LimitReached                the caller has as much under way as one user may have (429)
    ├── Conflict                    the object is in a state that forbids it (400, as the official server)
    ├── Busy                        a bound is reached; try again later (503)
    │   ├── DatabaseUnavailable     the database cannot be reached or is locked for too long
    │   ├── StoreFull               there is hardly any room for results (507)
    │   └── StoreUnavailable        the result store cannot be reached, or has an error of its own
    │       └── StoreRefused        it answers, but does not do what we ask: an operator has to act
    ├── TransformError              one input file could not be transformed
    │   ├── SourceUnavailable       unreachable, timed out: another attempt may help
    │   │   ├── SiteUnavailable     it is the site that does not answer, whatever file is asked for
    │   │   ├── SpoolUnavailable    it has to be fetched whole, and this machine has no room for it
    │   │   └── SourceMissing       there is no such file: none will
    │   ├── SourceCorrupt           the bytes are not what the format promises
    │   ├── AttemptLost             the process that worked on the file died
    │   └── ResourceExhausted       a bound on memory, time or output was hit
    ├── FinderError                 a data set could not be looked up
    │   ├── UnknownDataset          there is no data set of that name
    │   └── BadDatasetName          the finder cannot make sense of the name
    ├── FilesFailed                 some of the files of a call could not be transformed
    └── ConfigurationError          the operator's settings do not work; names the setting
        └── CredentialError         the server's own proxy, token or certificate is missing, over or broken
"""

from __future__ import annotations

from pathlib import Path


class ServicexError(Exception):
    """The server met an error."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message if message is not None else (type(self).__doc__ or "").strip())

    @property
    def message(self) -> str:
        return str(self.args[0])


class InvalidRequest(ServicexError):
    """The request is not valid."""


class QueryError(InvalidRequest):
    """The query is not valid."""


class QuerySyntaxError(QueryError):
    """The query text does not parse.

    Attributes:
        position: offset of the first offending character in the query text, if known.
    """

    def __init__(self, message: str | None = None, *, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class UnsupportedQuery(QueryError):
    """The query uses something this server does not execute."""


class UnknownName(QueryError):
    """The query names a tree or branch that the file does not have.

    Attributes:
        name: what the query asked for.
        nearest: existing names that come closest, best first.
    """

    def __init__(self, message: str | None = None, *, name: str = "", nearest: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.nearest = nearest


class UnknownTree(UnknownName):
    """The file has none of the trees that the query names."""


class QueryTypeError(QueryError):
    """The query applies an operation to a type it does not fit."""


class UnknownCodegen(InvalidRequest):
    """No such code generator on this server."""


class SourceRefused(InvalidRequest):
    """This server may not read that input."""


class FormatError(InvalidRequest):
    """The result cannot be written in the asked format."""


class NotFound(ServicexError):
    """No such object."""


class NotAllowed(ServicexError):
    """You may not do this."""


class NotAuthenticated(ServicexError):
    """Credentials are missing or wrong."""


class Conflict(ServicexError):
    """The object is in a state that forbids this."""


class LimitReached(ServicexError):
    """You have as much under way as one user may have."""


class Busy(ServicexError):
    """The server is at one of its limits; try again later."""


class DatabaseUnavailable(Busy):
    """The database cannot be reached now; try again later."""


class StoreFull(Busy):
    """There is hardly any room left for results."""


class StoreUnavailable(Busy):
    """The result store cannot be reached now; try again later."""


class StoreRefused(StoreUnavailable):
    """The result store refuses this server; its operator has to look after it."""


class TransformError(ServicexError):
    """The file could not be transformed."""


class SourceUnavailable(TransformError):
    """The file cannot be reached now."""


class SiteUnavailable(SourceUnavailable):
    """The site that holds the file does not answer."""


class SpoolUnavailable(SourceUnavailable):
    """The file has to be fetched whole, and the worker's disk has no room for it."""


class SourceMissing(SourceUnavailable):
    """There is no such file."""


class SourceCorrupt(TransformError):
    """The file's bytes are not what its format promises."""


class AttemptLost(TransformError):
    """The process that worked on the file died."""


class ResourceExhausted(TransformError):
    """A bound on memory, time or output size was reached."""


class FinderError(ServicexError):
    """The data set could not be looked up."""


class UnknownDataset(FinderError):
    """There is no such data set."""


class BadDatasetName(FinderError):
    """That is not the name of a data set."""


class FilesFailed(ServicexError):
    """Some of the files could not be transformed; the others are done.

    Attributes:
        failures: each file without a result, and why.
        results: the results of the others.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        failures: tuple[tuple[str, ServicexError], ...] = (),
        results: tuple[Path, ...] = (),
    ) -> None:
        super().__init__(message)
        self.failures = failures
        self.results = results


class ConfigurationError(ServicexError):
    """A setting does not work."""


class DatabaseUnreachable(ConfigurationError):
    """No connection to the database could be made, which may be better soon."""


class CredentialError(ConfigurationError):
    """The server's own grid credentials do not work."""
