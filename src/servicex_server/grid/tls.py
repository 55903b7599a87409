"""TLS to grid storage over https: which authorities are trusted, and what is shown."""

from __future__ import annotations

import logging
import ssl

import httpx

from servicex_server.grid.access import GridAccess

log = logging.getLogger(__name__)


def trusted_context(access: GridAccess) -> ssl.SSLContext:
    """A context for hosts of `access.hosts`, with what there is now: the grid's authorities beside the
    system's, and the proxy as the client's certificate.
    """
    context = httpx.create_ssl_context()
    context.load_default_certs()
    if access.cert_dir is not None and access.cert_dir.is_dir():
        context.load_verify_locations(capath=str(access.cert_dir))
    if access.proxy_file is not None:
        try:
            context.load_cert_chain(str(access.proxy_file), password="")  # never asks
        except FileNotFoundError:
            pass
        except (OSError, ssl.SSLError) as error:
            # The storage will say what it misses, and the refusal then tells what is wrong with the proxy.
            log.warning("grid.unreadable: the proxy %s cannot be used: %s", access.proxy_file, error)
    return context
