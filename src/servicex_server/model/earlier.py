"""Results of an earlier request as the input of another one: how they are named.

The name says which result is meant and opens nothing: where its object is, only the server finds out, and
only for requests whose data set is that earlier request.
"""

from __future__ import annotations

from servicex_server.model.ids import RequestId
from servicex_server.model.kinds import ResultFormat

SCHEME = "servicex"
"""Of such data sets, which only those may use who may see the request."""

READABLE = (ResultFormat.ROOT_FILE, ResultFormat.ROOT_RNTUPLE)
"""Formats of results that can be input."""


def to_location(request_id: RequestId, object_name: str) -> str:
    """The name of one result.

    >>> to_location(RequestId("1d0f"), ":data:x.root")
    'servicex://1d0f/:data:x.root'
    """
    return f"{SCHEME}://{request_id}/{object_name}"


def split_location(location: str) -> tuple[RequestId, str] | None:
    """Request and object name; None for a location that names no such result.

    >>> split_location("servicex://1d0f/:data:x.root")
    ('1d0f', ':data:x.root')
    """
    scheme, _, rest = location.partition("://")
    request_id, slash, object_name = rest.partition("/")
    return (RequestId(request_id), object_name) if scheme == SCHEME and slash else None


def request_of(did: str) -> RequestId | None:
    """The request whose results the data set is; None if it is of another kind.

    >>> request_of("servicex://1d0f?files=2"), request_of("rucio://a:b")
    ('1d0f', None)
    """
    scheme, mark, rest = did.partition("://")
    return RequestId(rest.partition("?")[0]) if mark and scheme == SCHEME else None
