"""Which data sets a server can find: by itself, and through programs of their own."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from servicex_server.app.settings import ANY_ADDRESS, Settings
from servicex_server.did.protocol import Finder, RemoteFinders
from servicex_server.errors import ConfigurationError
from servicex_server.grid.access import GridAccess
from servicex_server.model.did import Did
from servicex_server.model.earlier import SCHEME
from servicex_server.model.ids import DatasetId
from servicex_server.queue.celery_wire import finder_queue, lookup_task
from servicex_server.queue.transports.open import require_broker_url
from servicex_server.source.policy import SourcePolicy

if TYPE_CHECKING:
    from servicex_server.db.session import Database
    from servicex_server.did.rucio.login import RucioAccess
    from servicex_server.queue.transports.amqp.celery import CeleryPublisher

logger = logging.getLogger(__name__)

INTERNAL_PATH = "/servicex/internal/transformation/"

Build = Callable[[Settings, SourcePolicy], Finder | None]


def _cernopendata(settings: Settings, _policy: SourcePolicy) -> Finder:
    from servicex_server.did.finders.cernopendata import CernOpenDataFinder  # noqa: PLC0415  httpx, for few

    return CernOpenDataFinder(settings.cernopendata_url)


def _local(_settings: Settings, policy: SourcePolicy) -> Finder | None:
    from servicex_server.did.finders.local import LocalFinder  # noqa: PLC0415  as above

    return LocalFinder(policy) if policy.local_roots else None


def _rucio(settings: Settings, policy: SourcePolicy) -> Finder | None:
    access = rucio_access(settings, policy.grid)
    if access is None:
        return None
    from servicex_server.did.finders.rucio import ReplicaChoice, RucioFinder  # noqa: PLC0415  as above

    latitude, longitude = settings.rucio_latitude, settings.rucio_longitude
    if settings.rucio_auth_type == "x509_proxy" and not access.has_proxy():
        logger.warning(
            "rucio.proxy: there is no proxy in %s, so that no rucio:// data set can be looked up; make one "
            "with `servicex-server proxy`, or set `x509_proxy_file`, or another `rucio_auth_type`",
            policy.grid.proxy_file,
        )
    choice = ReplicaChoice(
        sites=settings.rucio_sites,
        schemes=settings.rucio_schemes,
        site=settings.rucio_site,
        position=None if latitude is None or longitude is None else (latitude, longitude),
        logical_prefix=settings.rucio_logical_prefix,
    )
    return RucioFinder(access, choice)


def rucio_access(settings: Settings, grid: GridAccess) -> RucioAccess | None:
    """Where Rucio is and who we are there; None if the settings name none."""
    if settings.rucio_host is None:
        return None
    from servicex_server.did.rucio.login import LoginKind, RucioAccess  # noqa: PLC0415  as above

    password = settings.rucio_password
    return RucioAccess(
        host=settings.rucio_host,
        auth_host=settings.rucio_auth_host or settings.rucio_host,
        kind=LoginKind(settings.rucio_auth_type),
        account=settings.rucio_account,
        username=settings.rucio_username,
        password=None if password is None else password.get_secret_value(),
        grid=grid,
        ca_file=settings.rucio_ca_file,
    )


def _static(settings: Settings, _policy: SourcePolicy) -> Finder | None:
    from servicex_server.did.finders.static import StaticFinder  # noqa: PLC0415  as above

    return StaticFinder(settings.static_files) if settings.static_files else None


def _xrootd(_settings: Settings, policy: SourcePolicy) -> Finder | None:
    from servicex_server.did.finders.xrootd import XrootdFinder  # noqa: PLC0415  as above

    return XrootdFinder(policy) if importlib.util.find_spec("XRootD") is not None else None


def _web(_settings: Settings, policy: SourcePolicy) -> Finder:
    from servicex_server.did.finders.web import WebFinder  # noqa: PLC0415  as above

    return WebFinder(policy)


BUILT_IN: Mapping[str, Build] = {
    "cernopendata": _cernopendata,
    "http": _web,
    "https": _web,
    "local": _local,
    "rucio": _rucio,
    "static": _static,
    "xrootd": _xrootd,
}
"""By scheme; None where something it needs is missing here."""

_NEEDS: Mapping[str, str] = {
    "local": "the setting `local_roots`",
    "rucio": "the setting `rucio_host`",
    "static": "the setting `static_files`",
    "xrootd": "the package xrootd",
}
"""What those need that may be None."""


def build_finders(settings: Settings, policy: SourcePolicy, db: Database) -> dict[str, Finder]:
    """The finders inside this process, but for schemes that have one elsewhere.

    Args:
        db: where earlier requests are known.

    Raises:
        ConfigurationError: there is no such finder.
    """
    finders: dict[str, Finder] = {}
    for scheme in settings.finders:
        if scheme == SCHEME:
            from servicex_server.did.finders.earlier import EarlierFinder  # noqa: PLC0415  as above

            finders[scheme] = EarlierFinder(db)
            continue
        if scheme not in BUILT_IN:
            offered = ", ".join(sorted({*BUILT_IN, SCHEME}))
            message = f"finders: there is no {scheme!r}; there are {offered}"
            raise ConfigurationError(message)
        if scheme not in settings.broker_finders:
            finder = BUILT_IN[scheme](settings, policy)
            if finder is not None:
                finders[scheme] = finder
    return finders


def explain_absent(settings: Settings, finders: Collection[str]) -> dict[str, str]:
    """Schemes of ours that cannot be looked up here, and what each needs.

    Args:
        finders: schemes of those that were built.
    """
    return {
        scheme: _NEEDS[scheme] if scheme in settings.finders else "to be named in the setting `finders`"
        for scheme in sorted({*BUILT_IN, SCHEME} - {*finders, *settings.broker_finders})
    }


def build_finder(settings: Settings, policy: SourcePolicy, scheme: str) -> Finder:
    """The one finder of that scheme. Raises ConfigurationError if it cannot be had here."""
    if scheme == SCHEME:
        message = (
            f"the {scheme} finder is a part of each server, whose own requests it finds; do not start it"
        )
        raise ConfigurationError(message)
    if scheme not in BUILT_IN:
        message = f"there is no {scheme!r} finder; there are {', '.join(sorted(BUILT_IN))}"
        raise ConfigurationError(message)
    finder = BUILT_IN[scheme](settings, policy)
    if finder is None:
        message = f"the {scheme} finder needs {_NEEDS[scheme]}, which is missing here"
        raise ConfigurationError(message)
    return finder


class BrokerFinders:
    """Finders that listen on RabbitMQ as Celery workers do: official ones, and `servicex-server finder`."""

    def __init__(self, publisher: CeleryPublisher, schemes: tuple[str, ...], endpoint: str) -> None:
        self._publisher = publisher
        self._endpoint = endpoint
        self.schemes = schemes

    async def ask(self, did: Did, dataset_id: DatasetId) -> None:
        task = lookup_task(did.scheme, did.rest, dataset_id, self._endpoint)
        await self._publisher.send(finder_queue(did.scheme), task)


async def open_broker_finders(settings: Settings, stack: AsyncExitStack) -> RemoteFinders | None:
    """The finders behind the broker, if there are any.

    Raises:
        ConfigurationError: they cannot be asked, or could not answer; says what is missing.
    """
    if not settings.broker_finders:
        return None
    url = finder_broker_url(settings)
    from servicex_server.queue.transports.amqp.celery import CeleryPublisher  # noqa: PLC0415  optional

    publisher = await stack.enter_async_context(CeleryPublisher(url))
    return BrokerFinders(publisher, settings.broker_finders, internal_endpoint(settings))


def finder_broker_url(settings: Settings) -> str:
    """The broker that finders listen to. Raises ConfigurationError if there is none."""
    named = settings.finder_broker_url or settings.queue_url
    if named is None:
        message = "finders beside the server need a broker: SERVICEX_FINDER_BROKER_URL or SERVICEX_QUEUE_URL"
        raise ConfigurationError(message)
    require_broker_url(named.get_secret_value())
    return named.get_secret_value()


def internal_endpoint(settings: Settings) -> str:
    """What finders are told to answer to."""
    if not settings.internal_port:
        message = "finders that are programs of their own answer at SERVICEX_INTERNAL_PORT; give it"
        raise ConfigurationError(message)
    if settings.internal_url is not None:
        return f"{settings.internal_url}{INTERNAL_PATH}"
    host = settings.internal_host
    if host in ANY_ADDRESS:
        message = f"internal_host {host} is no address that finders can answer to; give SERVICEX_INTERNAL_URL"
        raise ConfigurationError(message)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{settings.internal_port}{INTERNAL_PATH}"
