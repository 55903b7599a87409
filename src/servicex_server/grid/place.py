"""Places for a proxy: a file, or memory."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from servicex_server.errors import CredentialError
from servicex_server.grid.proxy import LARGEST_BYTES


@dataclass(slots=True)
class MemoryPlace:
    """A place for tests."""

    content: bytes | None = None

    def read(self) -> bytes | None:
        return self.content

    def write(self, proxy: bytes) -> None:
        self.content = proxy


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A file that only its owner can read (mode 0600)."""

    path: Path

    def read(self) -> bytes | None:
        try:
            with self.path.open("rb") as file:
                return file.read(LARGEST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            message = f"the proxy {self.path} cannot be read: {error.strerror}"
            raise CredentialError(message) from error

    def write(self, proxy: bytes) -> None:
        write_private(self.path, proxy)


def write_private(path: Path, content: bytes) -> None:
    """Puts the content there at once, for its owner alone; the folder is made if it is missing.

    Raises:
        CredentialError: it cannot be done; what was there is still there.
    """
    scratch: str | None = None
    try:
        make_private_folder(path.parent)
        # Made with mode 0600, under a name of its own: several processes may do this at the same time.
        descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).replace(path)
    except OSError as error:
        if scratch is not None:
            with suppress(OSError):
                Path(scratch).unlink()
        message = f"cannot write {path}: {error.strerror}"
        raise CredentialError(message) from error


def make_private_folder(folder: Path) -> None:
    """Makes the folder, with mode 0700, if it is missing; one that is there is left as it is."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
