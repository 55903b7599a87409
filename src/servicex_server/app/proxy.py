"""`servicex-server proxy`, `init` and `clear`: the server's own identity on the grid."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from servicex_server.app.datadir import DataDir
from servicex_server.app.ports import grid_access
from servicex_server.app.settings import Settings
from servicex_server.errors import CredentialError
from servicex_server.grid.certificate import (
    CERT_NAME,
    FROM_P12,
    KEY_NAME,
    UserCertificate,
    UserFiles,
    load_certificate,
    open_key,
)
from servicex_server.grid.kubernetes import SecretPlace, find_cluster
from servicex_server.grid.maker import ProxyWish, choose_maker
from servicex_server.grid.place import FilePlace, make_private_folder, write_private
from servicex_server.grid.protocol import ProxyPlace
from servicex_server.grid.proxy import Proxy, require_cryptography
from servicex_server.grid.renewal import ProxyKeeper, Schedule
from servicex_server.telemetry import logs
from servicex_server.telemetry.exposition import serve_metrics
from servicex_server.telemetry.metrics import PROXY_CERTIFICATE_EXPIRY

logger = logging.getLogger(__name__)

CERTS_SECRET = "grid-certs-secret"  # noqa: S105  its name
"""The Secret that ServiceX deployments keep the user's certificate in."""

_PASSPHRASE = "passphrase"  # noqa: S105  a key in it


def load_user(settings: Settings, cert_dir: Path | None) -> UserCertificate:
    """The certificate that proxies are made from.

    Args:
        settings: say where it is by default: in the data folder, where `init` puts it.
        cert_dir: another folder with usercert.pem and userkey.pem.

    Raises:
        CredentialError: it is not there, or over.
    """
    user = load_certificate(_files(settings, cert_dir))
    user.require_valid()
    return user


def renew_once(settings: Settings, cert_dir: Path | None, passphrase: bytes | None) -> Proxy:
    """Makes a proxy and puts it into its places.

    Raises:
        CredentialError: it cannot be done; what was there is still there.
    """
    logs.configure(settings.log_level, as_json=settings.log_format == "json")
    return _keeper(settings, cert_dir, passphrase).renew()


def keep_fresh(settings: Settings, cert_dir: Path | None, passphrase: bytes | None) -> int:
    """Keeps the proxy fresh until SIGTERM or SIGINT; returns the exit code.

    Raises:
        CredentialError: the passphrase is wrong, or what makes proxies is not installed.
        ConfigurationError: the settings do not work.
    """
    logs.configure(settings.log_level, as_json=settings.log_format == "json")
    keeper = _keeper(settings, cert_dir, passphrase)
    user = load_certificate(_files(settings, cert_dir))
    # What no waiting makes better is said at once.
    open_key(user, passphrase)
    PROXY_CERTIFICATE_EXPIRY.set(user.expires_at.timestamp())
    if user.is_ending():
        logger.warning(
            "proxy.certificate: that of %s ends on %s", user.subject, f"{user.expires_at:%Y-%m-%d}"
        )
    return asyncio.run(_run(settings, keeper))


def install(settings: Settings, cert_dir: Path, passphrase: bytes | None, namespace: str | None) -> str:
    """Puts usercert.pem and userkey.pem where `proxy` finds them; returns where that is, in words.

    Args:
        settings: name the data folder.
        cert_dir: where the files are now.
        passphrase: of the key. It is kept in a Secret, as ServiceX does, and nowhere else.
        namespace: of Kubernetes, for a Secret there; None for the data folder.

    Raises:
        CredentialError: certificate and key do not belong together, are over, or cannot be installed.
    """
    user = load_certificate(_files(settings, cert_dir))
    user.require_valid()
    open_key(user, passphrase)
    whose = f"{user.subject}, until {user.expires_at:%Y-%m-%d}"
    if namespace is not None:
        values = {CERT_NAME: user.cert_pem, KEY_NAME: user.key_pem}
        kept = passphrase if user.is_protected else None
        find_cluster(namespace, settings.kubernetes_api).write_secret(
            CERTS_SECRET, {**values, _PASSPHRASE: kept}
        )
        return f"Secret {CERTS_SECRET} in namespace {namespace}: {whose}"
    data = DataDir(settings.data_dir)
    data.create_folder()
    try:
        make_private_folder(data.grid)
        data.grid.chmod(0o700)
    except OSError as error:
        message = f"cannot make the folder {data.grid}: {error.strerror}"
        raise CredentialError(message) from error
    # The key first: a certificate without its key would be found.
    write_private(data.grid / KEY_NAME, user.key_pem)
    write_private(data.grid / CERT_NAME, user.cert_pem)
    return f"{data.grid}: {whose}"


def remove(settings: Settings, namespace: str | None) -> list[str]:
    """Removes what `install` and `proxy` have put there; returns what it was, in words.

    Raises:
        CredentialError: something could not be removed.
    """
    if namespace is not None:
        cluster = find_cluster(namespace, settings.kubernetes_api)
        names = [CERTS_SECRET, *([settings.proxy_secret] if settings.proxy_secret else [])]
        return [f"Secret {name} in {namespace}" for name in names if cluster.delete_secret(name)]
    data = DataDir(settings.data_dir)
    removed = []
    for path in (data.grid / CERT_NAME, data.grid / KEY_NAME, data.proxy):
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            message = f"cannot remove {path}: {error.strerror}"
            raise CredentialError(message) from error
        removed.append(str(path))
    return removed


def proxy_places(settings: Settings) -> list[ProxyPlace]:
    """Where the proxy goes.

    Raises:
        ConfigurationError: a Secret is named, and no cluster can be found.
    """
    data = DataDir(settings.data_dir)
    places: list[ProxyPlace] = [FilePlace(settings.x509_proxy_file or data.proxy)]
    if settings.proxy_secret is not None:
        cluster = find_cluster(settings.kubernetes_namespace, settings.kubernetes_api)
        places.append(SecretPlace(cluster, settings.proxy_secret))
    return places


def _files(settings: Settings, cert_dir: Path | None) -> UserFiles:
    if cert_dir is None:
        return UserFiles(DataDir(settings.data_dir).grid)
    return UserFiles(cert_dir.expanduser(), advice=FROM_P12)


def _keeper(settings: Settings, cert_dir: Path | None, passphrase: bytes | None) -> ProxyKeeper:
    require_cryptography()
    data = DataDir(settings.data_dir)
    if settings.x509_proxy_file is None:
        data.create_folder()
    wish = ProxyWish(
        vo=settings.proxy_vo,
        role=settings.proxy_role,
        life_s=settings.proxy_life_s,
        cert_dir=grid_access(settings, data).cert_dir,
    )
    return ProxyKeeper(
        choose_maker(_files(settings, cert_dir), wish),
        proxy_places(settings),
        wish,
        Schedule(renew_fraction=settings.proxy_renew_fraction, warn_s=settings.proxy_warn_s),
        passphrase,
    )


async def _run(settings: Settings, keeper: ProxyKeeper) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serve_metrics(
        settings.metrics_host, settings.proxy_metrics_port, setting="proxy_metrics_port"
    ):
        await keeper.run(stop)
    logger.info("proxy.stopped: the proxy stays where it is")
    return 0
