"""The socket's place in the file system: private to its owner, of any length, never two servers on one."""

from __future__ import annotations

import os
import socket
import stat
import struct
from asyncio.trsock import TransportSocket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from servicex_server.errors import ConfigurationError


def listen(path: Path) -> socket.socket:
    """A listening socket at `path` with mode 0600; replaces a stale one.

    Raises:
        ConfigurationError: something else is at `path`, a server is alive there, or the system refuses.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _open_folder(path) as (folder, folder_fd):
            _check_free(path)
            return _bind(path, folder, folder_fd)
    except OSError as error:
        message = f"cannot listen on the socket {path}: {error.strerror or error}"
        raise ConfigurationError(message) from error


def dial(path: Path) -> socket.socket:
    """A socket connected to our server at `path`; raises OSError if none listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _open_folder(path) as (folder, _):
            connection.connect(f"{folder}/{path.name}")
        _require_ours(connection)
    except BaseException:
        connection.close()
        raise
    connection.setblocking(False)
    return connection


def is_ours(connection: socket.socket | TransportSocket) -> bool:
    """Whether the process at the other end runs as the same user, by the kernel's word.

    So a socket that somebody put into a shared folder can neither feed us nor be fed.
    """
    layout = struct.Struct("iII")  # pid, uid, gid
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)
    _, user, _ = layout.unpack(credentials)
    return bool(user == os.getuid())


def _require_ours(connection: socket.socket) -> None:
    if not is_ours(connection):
        message = "it belongs to another user"
        raise PermissionError(message)


def identity(path: Path) -> tuple[int, int] | None:
    """What tells this file from another that may take its place; None if there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def _open_folder(path: Path) -> Iterator[tuple[str, int]]:
    """A short name for the folder of `path`: socket addresses hold about 100 bytes, paths 4,096."""
    folder_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder_fd}", folder_fd
    finally:
        os.close(folder_fd)


def _check_free(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        message = f"{path} exists and is not a socket; remove it or choose another data folder"
        raise ConfigurationError(message)
    try:
        with closing(dial(path)):
            message = f"another server is running on {path}; stop it or choose another data folder"
            raise ConfigurationError(message)
    except OSError:
        return  # nobody listens: left behind by a server that was killed


def _bind(path: Path, folder: str, folder_fd: int) -> socket.socket:
    """Binds under a name of its own, then renames: nobody sees the socket before its mode is 0600."""
    draft = f".{os.getpid()}.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        Path(folder, draft).unlink(missing_ok=True)
        listener.bind(f"{folder}/{draft}")
        os.chmod(draft, 0o600, dir_fd=folder_fd)
        listener.listen(64)
        os.rename(draft, path.name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
