"""The store of results that the settings name: whether it can be used."""

from __future__ import annotations

import logging

from servicex_server.app.datadir import DataDir
from servicex_server.app.ports import store_arguments
from servicex_server.app.settings import Settings
from servicex_server.errors import ConfigurationError, ResourceExhausted, StoreRefused, StoreUnavailable
from servicex_server.store.open import find_folder, open_store
from servicex_server.store.probe import probe
from servicex_server.store.protocol import Store

logger = logging.getLogger(__name__)

_PATIENCE_S = 2.0
"""So long a probe is tried again, instead of a server's calls: it is there to tell of trouble."""


async def probe_results(settings: Settings) -> None:
    """Returns if the store can be used.

    Raises:
        ConfigurationError: it refuses, or is none.
        StoreUnavailable: it cannot be reached now.
        ResourceExhausted: it is full now. All of them name the settings.
    """
    try:
        await probe(_open_impatiently(settings))
    except (StoreRefused, ConfigurationError) as error:
        message = f"{error.message} ({_settings(settings)})"
        raise ConfigurationError(message) from error
    except (StoreUnavailable, ResourceExhausted) as error:
        message = f"{error.message} ({_settings(settings)})"
        raise type(error)(message) from error


async def require_usable(settings: Settings) -> None:
    """Returns unless it takes an operator to make the store usable.

    One that is away or full comes back by itself, as far as its own operators look after it: until then it is
    better to have a server that takes requests and tells of states than none.

    Raises:
        ConfigurationError: the store refuses, or is none; names the settings.
    """
    try:
        await probe_results(settings)
    except (StoreUnavailable, ResourceExhausted) as error:
        logger.warning("store.unusable: %s; the server starts all the same", error.message)


def require_folder(settings: Settings) -> None:
    """Looks for the folder of results, if they go into one; nothing is asked of a store elsewhere.

    Raises:
        ConfigurationError: it is missing, or cannot be written; names the setting.
    """
    if settings.store_url is None or find_folder(settings.store_url) is None:
        return
    try:
        _open_impatiently(settings)
    except ConfigurationError as error:
        message = f"{error.message} ({_settings(settings)})"
        raise ConfigurationError(message) from error


def _open_impatiently(settings: Settings) -> Store:
    arguments = store_arguments(settings, DataDir(settings.data_dir))
    return open_store(**{**arguments, "read_patience_s": _PATIENCE_S})  # type: ignore[arg-type]  # plain


def _settings(settings: Settings) -> str:
    """Where to look for the mistake."""
    if settings.store_url is None:
        return "in the data folder"
    if find_folder(settings.store_url) is not None:
        return "SERVICEX_STORE_URL"
    return "SERVICEX_STORE_URL, SERVICEX_STORE_ENDPOINT, SERVICEX_STORE_ACCESS_KEY, SERVICEX_STORE_SECRET_KEY"
