"""The connections of one process to the store."""

from __future__ import annotations

import atexit
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from obstore.store import S3Store as Bucket

from servicex_server.errors import ConfigurationError
from servicex_server.store.backends.s3.credential import CredentialSource
from servicex_server.store.backends.s3.patience import S3Patience
from servicex_server.store.backends.s3.place import S3Place

if TYPE_CHECKING:
    from obstore.store import S3Credential as ObstoreCredential  # not there at run time

_CREDENTIALS_S = 60
_LET_GO_S = 0.1
_READ_S = 7 * 86400.0
"""A slow client may take so long for one object; what bounds reading is that something has to move."""

_runtime_pid: int | None = None
"""The process in which obstore's threads run, which all its clients share and no fork survives."""


class Clients:
    """Clients of a bucket, made at the first call in each process.

    Nothing is started before: a process that forks may hold a store as long as it does not use it. One
    that has used it cannot give it to forked children (theirs would hang, and disturb the parent's), so
    that is refused.
    """

    def __init__(
        self, place: S3Place, credentials: CredentialSource, patience: S3Patience, *, bulk_delete: bool
    ) -> None:
        self.place = place
        self.patience = patience
        self._credentials = credentials
        self._bulk_delete = bulk_delete
        self._lock = threading.Lock()
        self._calling: Bucket | None = None
        self._reading: Bucket | None = None

    def calling(self) -> Bucket:
        """For everything but reading objects.

        Raises:
            ConfigurationError: this process was forked from one that had used a store.
        """
        claim_runtime()
        with self._lock:
            if self._calling is None:
                self._calling = self._make(self.patience.call_s)
            return self._calling

    def reading(self) -> Bucket:
        """For reading objects, which may take as long as it goes on; raises as `calling`."""
        claim_runtime()
        with self._lock:
            if self._reading is None:
                self._reading = self._make(_READ_S)
            return self._reading

    def _make(self, timeout_s: float) -> Bucket:
        place, patience = self.place, self.patience
        endpoint = place.server_url
        certificates = _read_certificates(place)
        return Bucket(
            place.bucket,
            prefix=place.prefix or None,
            # Both, or a variable of the environment would prevail over the settings.
            endpoint=endpoint,
            aws_endpoint_url_s3=endpoint,
            region=place.region,
            virtual_hosted_style_request=not place.is_path_style,
            disable_bulk_delete=not self._bulk_delete,
            credential_provider=self._provide,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=patience.connect_s),
                "read_timeout": timedelta(seconds=patience.stall_s),
                "timeout": timedelta(seconds=timeout_s),
                **({"root_certificate": certificates} if certificates else {}),
            },
            retry_config={
                "max_retries": 10,
                "retry_timeout": timedelta(seconds=patience.read_s),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=2),
                },
            },
        )

    def _provide(self) -> ObstoreCredential:
        credential = self._credentials()
        return {
            "access_key_id": credential.access_key_id,
            "secret_access_key": credential.secret_access_key,
            "token": credential.session_token,
            "expires_at": datetime.now(UTC) + timedelta(seconds=_CREDENTIALS_S),
        }


def claim_runtime() -> None:
    """Takes note that this process uses obstore.

    Raises:
        ConfigurationError: the process that it was forked from did.
    """
    global _runtime_pid  # noqa: PLW0603  obstore's threads are just as global
    if _runtime_pid is None:
        _runtime_pid = os.getpid()
        atexit.register(_let_go)
    elif _runtime_pid != os.getpid():
        message = (
            "the S3 store was used before this process was forked, which it does not survive: "
            "start worker processes first, or with exec"
        )
        raise ConfigurationError(message)


def _let_go() -> None:
    """Lets obstore's threads finish what they still do with Python.

    They tell the event loop of a result and then drop their objects; one that the interpreter's end
    catches in the middle aborts the process.
    """
    if _runtime_pid == os.getpid():
        time.sleep(_LET_GO_S)


def _read_certificates(place: S3Place) -> bytes | None:
    if place.ca_file is None:
        return None
    try:
        return place.ca_file.read_bytes()
    except OSError as error:
        message = f"the result store's certificates {place.ca_file} cannot be read: {error.strerror}"
        raise ConfigurationError(message) from error
