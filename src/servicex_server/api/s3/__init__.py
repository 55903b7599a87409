"""The S3-compatible read endpoint: a request's results as a bucket, on the API's own port.

In: GET and HEAD requests of S3 clients, path style, signed with the key pair of one request.
Out: objects, ranges and listings, or an S3 error document. Nothing can be written here.

    request      the received HTTP request as plain data: path, query and headers within bounds
    credential   which signature a request carries, and for when
    signature    the same signature recomputed (by botocore) from what was received
    access       both put together: whose key it is, or why it is refused
    content      conditions, ranges and headers of one object
    listing      ListObjects V1 and V2: pages, delimiters, markers
    document     the XML of listings and errors
    endpoint     the operations, as an ASGI application
    router       the routes
"""

from __future__ import annotations

from servicex_server.api.s3.router import build_root_route, build_router

__all__ = ["build_root_route", "build_router"]
