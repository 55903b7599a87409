"""Who the server is on the grid, in words without secrets."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from servicex_server.errors import CredentialError
from servicex_server.grid.access import GridAccess
from servicex_server.grid.proxy import Proxy, load_proxy
from servicex_server.grid.token import Token, parse_token, read_token

log = logging.getLogger(__name__)


def service_identity(access: GridAccess) -> str | None:
    """The name under which the server reads grid storage now: subject and VO, issuer and subject.

    Two readings under the same name see the same files. It does not change when a proxy or token is renewed,
    and holds no secret. None means that nothing is shown to storage.

    Raises:
        CredentialError: a file is there, but it cannot be told whose it is; nothing may be shared then.
    """
    names = []
    if (proxy := find_proxy(access)) is not None:
        names.append(f"x509 {proxy.subject}" + (f" VO {proxy.vo}" if proxy.vo else ""))
    if (token := find_token(access)) is not None:
        if token.issuer is None or token.subject is None:
            message = f"{access.token_file}: it does not say whose token it is (no JWT with `iss` and `sub`)"
            raise CredentialError(message)
        names.append(f"token {token.issuer} {token.subject}")
    return " + ".join(names) or None


def find_proxy(access: GridAccess) -> Proxy | None:
    """What is said by the proxy file, if there is one.

    Raises:
        CredentialError: it cannot be read.
    """
    return None if access.proxy_file is None else load_proxy(access.proxy_file)


def find_token(access: GridAccess) -> Token | None:
    """What is said by the token, if there is one.

    Raises:
        CredentialError: it cannot be read.
    """
    text = None if access.token_file is None else read_token(access.token_file)
    return None if text is None else parse_token(text)


def explain_refusal(access: GridAccess, host: str, now: datetime | None = None) -> tuple[str, bool]:
    """What storage that refuses us was shown, as the end of a sentence; and whether that may be better soon.

    Args:
        access: what the server has.
        host: of the storage.
        now: for tests.
    """
    if access.is_callers:
        return "; is there a valid proxy (X509_USER_PROXY) or token (BEARER_TOKEN_FILE)?", False
    now = now or datetime.now(UTC)
    parts, is_over = [], False
    try:
        proxy, token = find_proxy(access), find_token(access)
    except CredentialError as error:
        log.warning("grid.unreadable: %s", error.message)  # paths are for the operator alone
        return "; this server's proxy or token cannot be read (its log tells why)", True
    if proxy is not None:
        is_over = proxy.expires_at <= now
        parts.append(_say_proxy(proxy, now))
    if token is not None and not access.is_trusted(host):
        parts.append(f"its bearer token is not shown to {host} (`grid_hosts`)")
    elif token is not None:
        has_ended = token.expires_at is not None and token.expires_at <= now
        is_over = is_over or has_ended
        parts.append(f"its bearer token {'EXPIRED, it was' if has_ended else 'is'} that of {token}")
    if not parts:
        return "; this server has no proxy (`x509_proxy_file`) and no token (`bearer_token_file`) now", False
    return "; " + ", ".join(parts), is_over


def explain_proxy(access: GridAccess, now: datetime | None = None) -> str:
    """What a service that takes nothing but a proxy was shown, as the end of a sentence."""
    try:
        proxy = find_proxy(access)
    except CredentialError as error:
        log.warning("grid.unreadable: %s", error.message)
        return "; this server's proxy cannot be read (its log tells why)"
    if proxy is None:
        return "; this server has no proxy (`x509_proxy_file`)"
    return f"; {_say_proxy(proxy, now or datetime.now(UTC))}"


def _say_proxy(proxy: Proxy, now: datetime) -> str:
    return (
        f"the proxy of this server {'EXPIRED, it was' if proxy.expires_at <= now else 'is'} that of {proxy}"
    )
