"""One request of an HTTP client that follows redirects itself: what it shows, and where it may be sent on."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import httpx

from servicex_server.errors import SourceRefused
from servicex_server.grid.access import GridAccess
from servicex_server.grid.token import find_authorization
from servicex_server.model.naming import show_location
from servicex_server.source.policy import SourcePolicy, check_host

REDIRECTS = (301, 302, 303, 307, 308)


def make_request(
    url: str, headers: dict[str, str], timeout: httpx.Timeout, grid: GridAccess
) -> httpx.Request:
    """A GET with the token for that host, if there is one, else with the user and password of the URL.

    Raises:
        SourceRefused: it is no URL that HTTP could ask for.
    """
    headers = {**headers, "Accept-Encoding": "identity", "User-Agent": "servicex-server"}
    try:
        request = httpx.Request("GET", url, headers=headers, extensions={"timeout": timeout.as_dict()})
    except (httpx.InvalidURL, ValueError) as error:  # names that IDNA cannot encode are the latter
        message = f"cannot read {show_location(url)}: it is no URL for HTTP: {error}"
        raise SourceRefused(message) from error
    token = find_authorization(grid, url)
    if token is not None:
        request.headers["Authorization"] = f"Bearer {token}"
    elif request.url.userinfo:
        auth = httpx.BasicAuth(request.url.username, request.url.password)
        request = next(auth.auth_flow(request))
    return request


def redirected(url: str, target: str, policy: SourcePolicy, location: str) -> str:
    """The URL that an answer of `url` sends us to.

    Args:
        target: the answer's `Location`.
        location: what was asked for at first, as it may be shown.

    Raises:
        SourceRefused: it is no HTTP, less protected than before, or a host that is not read from.
    """
    try:
        following = urljoin(url, target)
        scheme = urlsplit(following).scheme
    except ValueError as error:
        message = f"{location} redirects to what is no URL: {error}"
        raise SourceRefused(message) from error
    if scheme not in ("http", "https"):
        target = show_location(following)
        message = f"{location} redirects to {target!r}; only http:// and https:// are followed"
        raise SourceRefused(message)
    if scheme == "http" and urlsplit(url).scheme == "https":
        message = f"{location} redirects from https to http, which is not followed"
        raise SourceRefused(message)
    check_host(policy, following)
    return following
