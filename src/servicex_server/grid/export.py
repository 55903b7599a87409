"""What the XRootD client of this process may show: it finds proxies and tokens through the environment.

The client's library reads these variables whenever it connects. A proxy that is named but missing breaks its
TLS, and one in the default place (`/tmp/x509up_u0`) belongs to somebody: so the variables say what there is,
and the methods of authentication that go with what there is not are switched off in each URL.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from servicex_server.errors import CredentialError
from servicex_server.grid.access import GridAccess
from servicex_server.grid.place import write_private

log = logging.getLogger(__name__)

_PROXY, _TOKEN, _AUTHORITIES = "X509_USER_PROXY", "BEARER_TOKEN_FILE", "X509_CERT_DIR"
_NEVER = ("BEARER_TOKEN",)
"""Would be preferred to the file."""

_USERS_FILES = ("XrdSecGSIUSERCERT", "XrdSecGSIUSERKEY")
"""From these (in ~/.globus) the client would make a proxy, and ask a terminal for the passphrase."""

_CRASHES = "XrdSecGSICREATEPROXY"
"""The client's own switch for that; "0" crashes version 6.2.1 when there is no proxy that it can read."""

_METHODS = ("krb5", "sss", "unix", "host", "pwd")
"""What the client may always use: tickets and keys of the account that workers run under."""

_copied: dict[Path, tuple[int, int, int]] = {}
"""Which version of a file was copied last: its inode, time of change and size."""


def export(access: GridAccess) -> None:
    """Tells the XRootD client what there is now. To be called before each connection: files come and go."""
    if os.environ.pop(_CRASHES, "1") == "0" or not access.is_callers:
        for name in _USERS_FILES:
            os.environ[name] = os.devnull
    if access.is_callers:
        return
    for name in _NEVER:
        os.environ.pop(name, None)
    if access.cert_dir is not None:
        os.environ[_AUTHORITIES] = str(access.cert_dir)
    for name, file in ((_PROXY, access.proxy_file), (_TOKEN, access.token_file)):
        usable = None if file is None else private_version(file, access.private_folder)
        if usable is None:
            os.environ.pop(name, None)
        elif os.environ.get(name) != str(usable):
            os.environ[name] = str(usable)


def allowed_methods(access: GridAccess, host: str) -> str | None:
    """Methods by which the client may authenticate at that host, as in `xrd.wantprot`; None for all.

    A server that asks for a token gets it, whoever it is: so others than `hosts` cannot ask.
    """
    if access.is_callers:
        return None
    methods = [*_METHODS]
    if os.environ.get(_PROXY):
        methods.append("gsi")
    if os.environ.get(_TOKEN) and access.is_trusted(host):
        methods.append("ztn")
    return ",".join(methods)


def private_version(file: Path, folder: Path | None) -> Path | None:
    """The file, or a copy that only this account can read; None if there is none.

    Mounted Secrets can be read by a group, which grid clients refuse.

    Args:
        file: a proxy or token.
        folder: where the copy goes; None for no copy.
    """
    try:
        status = file.stat()
    except OSError:
        return None
    if not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) and status.st_uid == os.geteuid():
        return file
    if folder is None:
        return file
    copy = folder / file.name
    version = (status.st_ino, status.st_mtime_ns, status.st_size)
    if _copied.get(file) != version or not copy.exists():
        try:
            write_private(copy, file.read_bytes())
        except (OSError, CredentialError) as error:
            log.warning("grid.uncopied: %s: %s", file, error)
            return file
        _copied[file] = version
    return copy
