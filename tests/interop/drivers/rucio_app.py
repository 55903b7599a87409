"""Rucio's app for gunicorn, and gunicorn's settings, in the environment of Rucio.

What Apache does in front of Rucio elsewhere: it checks the client's certificate or proxy, and tells its name.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable
from typing import Any

workers, threads, worker_class = 1, 4, "gthread"
certfile, keyfile = os.environ["RUCIO_TEST_CERT"], os.environ["RUCIO_TEST_KEY"]
ca_certs, cert_reqs = os.environ["RUCIO_TEST_CA"], ssl.CERT_OPTIONAL
control_socket_disable = True


def ssl_context(_config: Any, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Takes proxies, too."""
    context = default()
    context.verify_flags |= 0x40  # X509_V_FLAG_ALLOW_PROXY_CERTS
    return context


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Rucio with the name of whoever asks."""
    from cryptography import x509  # noqa: PLC0415  gunicorn reads this file as its settings, too
    from rucio.web.rest.main import application as rucio  # noqa: PLC0415

    for name in [name for name in environ if name.startswith(("SSL_CLIENT", "HTTP_SSL_CLIENT"))]:
        del environ[name]
    content = environ["gunicorn.socket"].getpeercert(True)
    if content:
        subject = x509.load_der_x509_certificate(content).subject.rfc4514_string()
        environ |= {"SSL_CLIENT_S_DN": subject, "SSL_CLIENT_VERIFY": "SUCCESS"}
    answer: Iterable[bytes] = rucio(environ, start_response)
    return answer
