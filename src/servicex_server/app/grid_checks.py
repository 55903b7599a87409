"""The server's own identity on the grid, as findings for an operator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from servicex_server.app.datadir import DataDir
from servicex_server.app.finding import Finding, Grade
from servicex_server.app.ports import grid_access
from servicex_server.app.settings import Settings
from servicex_server.errors import CredentialError
from servicex_server.grid.access import GridAccess
from servicex_server.grid.certificate import UserFiles, load_certificate
from servicex_server.grid.identity import find_proxy, find_token
from servicex_server.grid.renewal import Schedule


def examine_grid(settings: Settings) -> Iterator[Finding]:
    """Looks at proxy, token and certificate; says nothing of what is not there and not asked for."""
    access = grid_access(settings, DataDir(settings.data_dir))
    now = datetime.now(UTC)
    yield from _proxy(settings, access, now)
    yield from _token(access, now)
    yield from _certificate(settings, now)


def _proxy(settings: Settings, access: GridAccess, now: datetime) -> Iterator[Finding]:
    subject = "grid proxy"
    try:
        proxy = find_proxy(access)
    except CredentialError as error:
        yield Finding(subject, Grade.WARNING, error.message)
        return
    if proxy is None:
        for_rucio = settings.rucio_host is not None and settings.rucio_auth_type == "x509_proxy"
        if settings.x509_proxy_file is not None or for_rucio:
            detail = f"{access.proxy_file} is missing: `servicex-server proxy` would make it"
            if for_rucio:
                detail += "; Rucio lets nobody in without it (`rucio_auth_type`)"
            yield Finding(subject, Grade.WARNING, detail)
        return
    schedule = Schedule(renew_fraction=settings.proxy_renew_fraction, warn_s=settings.proxy_warn_s)
    detail = f"{proxy} ({_left(proxy.expires_at, now)})"
    remedy = "; does `servicex-server proxy` run, and what does its log say?"
    if proxy.expires_at <= now or schedule.is_ending(proxy, now):
        yield Finding(subject, Grade.WARNING, detail + remedy)
    elif settings.proxy_vo is not None and proxy.vo != settings.proxy_vo:
        yield Finding(subject, Grade.WARNING, f"{detail}, but `proxy_vo` is {settings.proxy_vo}")
    else:
        yield Finding(subject, Grade.OK, detail)


def _token(access: GridAccess, now: datetime) -> Iterator[Finding]:
    subject = "bearer token"
    if access.token_file is None:
        return
    try:
        token = find_token(access)
    except CredentialError as error:
        yield Finding(subject, Grade.WARNING, error.message)
        return
    if token is None:
        yield Finding(subject, Grade.WARNING, f"{access.token_file} is missing or empty")
    elif not access.hosts:
        detail = f"{token}; it is shown to nobody: name the storage that may see it with `grid_hosts`"
        yield Finding(subject, Grade.WARNING, detail)
    elif token.expires_at is not None and token.expires_at <= now:
        detail = (
            f"{token} ({_left(token.expires_at, now)}): whoever keeps {access.token_file} fresh has stopped"
        )
        yield Finding(subject, Grade.WARNING, detail)
    else:
        left = f" ({_left(token.expires_at, now)})" if token.expires_at else ""
        yield Finding(subject, Grade.OK, f"{token}{left}, for {', '.join(access.hosts)}")


def _certificate(settings: Settings, now: datetime) -> Iterator[Finding]:
    subject = "grid certificate"
    files = UserFiles(DataDir(settings.data_dir).grid)
    if not files.cert.exists():
        return
    try:
        user = load_certificate(files)
    except CredentialError as error:
        yield Finding(subject, Grade.WARNING, error.message)
        return
    detail = f"{user.subject}, until {user.expires_at:%Y-%m-%d} ({_left(user.expires_at, now)})"
    yield Finding(subject, Grade.WARNING if user.is_ending(now) else Grade.OK, detail)


def _left(end: datetime, now: datetime) -> str:
    seconds = int((end - now).total_seconds())
    if seconds <= 0:
        return "EXPIRED"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours // 24} d {hours % 24} h left" if hours >= 48 else f"{hours} h {minutes} min left"
