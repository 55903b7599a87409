"""What a location says of who may read it, and what a time of change says of later changes."""

from __future__ import annotations

import hashlib
import os
import time

from servicex_server.model.access import PUBLIC, SERVICE, AccessDomain
from servicex_server.model.earlier import SCHEME
from servicex_server.source.policy import scheme_of
from servicex_server.source.url import split_url

_SETTLED_S = 2.0
"""Two changes within a tick of the file system's clock bear the same time; root:// tells whole seconds."""
_OWN_CREDENTIALS = (
    "X509_USER_PROXY",
    "X509_USER_CERT",
    "BEARER_TOKEN",
    "BEARER_TOKEN_FILE",
    "XrdSecPROTOCOL",
)
"""Variables by which the XRootD client finds credentials of the process it runs in."""


def domain_of(location: str, reader: str) -> AccessDomain:
    """Those who may share what is made of a file that was opened for `reader`.

    A user, or a query, in a URL may be a credential: what it opens is the reader's alone.

    >>> str(domain_of("https://host/x.root", "marie")), str(domain_of("https://host/x.root?sig=1", "marie"))
    ('public', 'user:marie')
    """
    scheme = scheme_of(location)
    if scheme is None or scheme == "file":
        return SERVICE
    if scheme == SCHEME:
        return AccessDomain.of_user(reader)  # nobody but the owner of the earlier request may read it
    url = split_url(location)
    if url.user is not None or "?" in url.rest or "#" in url.rest:
        return AccessDomain.of_user(reader)
    if scheme == "root" and any(name in os.environ for name in _OWN_CREDENTIALS):
        return SERVICE
    return PUBLIC


def has_settled(changed_s: float) -> bool:
    """Whether a file that was changed then would show by its time of change that it was changed again."""
    return time.time() - changed_s > _SETTLED_S


def digest_url(url: str) -> str:
    """The URL without its secrets, as a name."""
    return hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()[:32]
