"""The data folder: where everything of one server lies, and who may read it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from servicex_server.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class DataDir:
    """Paths inside a data folder, and the small files in it.

    The folder is made with mode 0700: results, tokens and the signing secret are its owner's alone.
    """

    path: Path

    @property
    def database(self) -> Path:
        return self.path / "servicex.db"

    @property
    def database_url(self) -> str:
        return f"sqlite+aiosqlite:///{self.database}"

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def socket(self) -> Path:
        return self.path / "queue.sock"

    @property
    def grid(self) -> Path:
        """Certificate and key of a grid user, and the proxy made from them."""
        return self.path / "grid"

    @property
    def proxy(self) -> Path:
        return self.grid / "x509up"

    @property
    def _token(self) -> Path:
        return self.path / "token"

    @property
    def client_config(self) -> Path:
        return self.path / "servicex.yaml"

    def create(self, *, with_database: bool = True) -> None:
        """Makes the folder if it is missing, and the database in it its owner's alone.

        Raises:
            ConfigurationError: it cannot be made or written to.
        """
        self.create_folder()
        if with_database:
            self.protect_database()

    def create_folder(self) -> None:
        """Makes the folder if it is missing.

        Raises:
            ConfigurationError: it cannot be made or written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            message = f"cannot make the data folder {self.path}: {error.strerror}; choose one with --data-dir"
            raise ConfigurationError(message) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            message = f"cannot write to the data folder {self.path}; choose another with --data-dir"
            raise ConfigurationError(message)

    def protect_database(self) -> None:
        """Gives the database mode 0600, also where the folder was there before and others may look into it.

        SQLite would make the file as readable as the umask lets it; the files it puts beside it get the
        database's own mode.

        Raises:
            ConfigurationError: the file is somebody else's, or a link.
        """
        try:
            _make_private(self.database, os.O_CREAT)
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    _make_private(self.database.with_name(self.database.name + suffix), 0)
        except OSError as error:
            message = f"the database {self.database} cannot be made private: {error.strerror}"
            raise ConfigurationError(message) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second server off this folder for as long as the context lasts, even across kill -9."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                url = self.read_url() or "an address it has not yet written down"
                message = (
                    f"a server already runs on {self.path} ({url}); stop it or choose another --data-dir"
                )
                raise ConfigurationError(message) from error
            yield
        finally:
            os.close(descriptor)

    def signing_secret(self) -> bytes:
        """The secret that signs access tokens; made at first use."""
        path = self.path / "secret"
        if not path.exists():
            _write_private(path, secrets.token_hex(32))
        return bytes.fromhex(path.read_text().strip())

    def read_token(self) -> str | None:
        """The access token of the person who runs the server, if there is one yet."""
        try:
            return self._token.read_text().strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def write_token(self, token: str) -> None:
        """Keeps the owner's token, in its own file: an open server writes `servicex.yaml` without one."""
        _write_private(self._token, token + "\n")

    def forget_token(self) -> None:
        self._token.unlink(missing_ok=True)

    def write_client_config(self, url: str, token: str | None) -> None:
        """Writes the file that the official client reads; with mode 0600, since it carries the token."""
        _write_private(self.client_config, client_config(url, token))

    def change_client_token(self, token: str | None) -> None:
        """Puts another token, or none, into the client's file, if there is one that we wrote."""
        url = self._read_endpoint().get("endpoint")
        if url is not None:
            self.write_client_config(url, token)

    def read_client_token(self) -> str | None:
        """The token that the client's file carries, if any."""
        return self._read_endpoint().get("token")

    def _read_endpoint(self) -> dict[str, str]:
        """The texts of the one endpoint in the client's file; none if the file is missing or not ours."""
        try:
            (endpoint,) = yaml.safe_load(self.client_config.read_text())["api_endpoints"]
        except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
            return {}
        if not isinstance(endpoint, dict):
            return {}
        return {str(key): value for key, value in endpoint.items() if isinstance(value, str)}

    def write_url(self, url: str) -> None:
        _write_private(self.path / "server.json", json.dumps({"url": url, "pid": os.getpid()}))

    def clear_url(self) -> None:
        (self.path / "server.json").unlink(missing_ok=True)

    def read_url(self) -> str | None:
        """URL of the server that runs (or was killed) on this folder."""
        try:
            url = json.loads((self.path / "server.json").read_text())["url"]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return url if isinstance(url, str) else None


def client_config(url: str, token: str | None) -> str:
    """The `servicex.yaml` of a client of the server at `url`."""
    endpoint = {"endpoint": url, "name": "servicex"} | ({"token": token} if token else {})
    content = {"api_endpoints": [endpoint], "default_endpoint": "servicex"}
    return str(yaml.safe_dump(content, sort_keys=False))


def is_inside(folder: Path, data_dir: Path) -> bool:
    """Whether a folder is the data folder or lies below it, links resolved."""
    return folder.resolve().is_relative_to(data_dir.resolve())


def _make_private(path: Path, flags: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _write_private(path: Path, text: str) -> None:
    """Replaces the file at once, readable by its owner only."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
