"""Opens the store that a URL names."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from urllib.parse import unquote, urlsplit

from servicex_server.errors import ConfigurationError
from servicex_server.store.backends.local import MIN_FREE_BYTES, LocalStore
from servicex_server.store.protocol import Store

EXAMPLES = "/folder, file:///folder or s3://bucket/prefix"


def open_store(
    url: str,
    *,
    scratch: str | Path | None = None,
    min_free_bytes: int = MIN_FREE_BYTES,
    make_folder: bool = True,
    endpoint: str | None = None,
    public_endpoint: str | None = None,
    region: str = "us-east-1",
    path_style: bool | None = None,
    ca_file: str | Path | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    access_key_file: str | Path | None = None,
    secret_key_file: str | Path | None = None,
    bulk_delete: bool = True,
    put_patience_s: float = 60.0,
    read_patience_s: float = 10.0,
) -> Store:
    """The store at `url`: a folder (also as `file:///folder`), or a bucket as `s3://bucket/prefix`.

    Nothing is asked of a store elsewhere, so that the caller may still fork; arguments are plain values,
    so that they may be sent to worker processes.

    Args:
        min_free_bytes: of a folder: what has to stay free on its disk.
        make_folder: if it is missing; one that several processes share had better be there before them, lest
            they write where a volume is not mounted.
        scratch: of a bucket: local folder for unfinished results.
        endpoint: URL of the S3 server; None for AWS.
        public_endpoint: URL under which clients reach it, if it is another one.
        region: what requests are signed for.
        path_style: the bucket's name stands in the path, not in the host name; default with an endpoint.
        ca_file: certificates to trust beside the system's.
        access_key_id, secret_access_key, session_token: credentials, or
        access_key_file, secret_key_file: files that hold them; without both, those of the AWS tools.
        bulk_delete: off for S3 servers that cannot delete many objects in one call.
        put_patience_s, read_patience_s: how long a worker's put, and a call of the server, is tried again
            while an S3 server cannot be reached.

    Raises:
        ConfigurationError: the URL or an argument does not work, or a package is missing.
    """
    scheme = _scheme(url)
    folder = find_folder(url)
    if folder is not None:
        if not make_folder and not folder.is_dir():
            message = f"there is no folder {folder} for results: make it, or mount the volume that it is on"
            raise ConfigurationError(message)
        return LocalStore(folder, min_free_bytes=min_free_bytes)
    if scheme != "s3":
        message = f"there is no result store of the kind {scheme!r}; use {EXAMPLES}"
        raise ConfigurationError(message)
    if importlib.util.find_spec("obstore") is None:
        message = "results in S3 need a package more: pip install 'servicex-server[production]'"
        raise ConfigurationError(message)
    if scratch is None:
        message = "a result store in S3 needs a local scratch folder as well"
        raise ConfigurationError(message)
    from servicex_server.store.backends.s3.credential import find_credentials  # noqa: PLC0415  optional
    from servicex_server.store.backends.s3.patience import S3Patience  # noqa: PLC0415
    from servicex_server.store.backends.s3.place import S3Place  # noqa: PLC0415
    from servicex_server.store.backends.s3.store import S3Store  # noqa: PLC0415

    place = S3Place.from_url(url).with_changes(
        endpoint=endpoint,
        public_endpoint=public_endpoint,
        region=region,
        is_path_style=endpoint is not None if path_style is None else path_style,
        ca_file=_to_path(ca_file),
    )
    credentials = find_credentials(
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
        session_token=session_token,
        access_key_file=_to_path(access_key_file),
        secret_key_file=_to_path(secret_key_file),
    )
    return S3Store(
        place,
        scratch=Path(scratch),
        credentials=credentials,
        patience=S3Patience(read_s=read_patience_s, put_s=put_patience_s),
        bulk_delete=bulk_delete,
    )


def find_folder(url: str) -> Path | None:
    """The folder that the URL names; None if it is a store elsewhere.

    Raises:
        ConfigurationError: it is one on another machine.
    """
    scheme = _scheme(url)
    return _to_folder(url, scheme) if scheme in {"", "file"} else None


def _scheme(url: str) -> str:
    return urlsplit(url).scheme if "://" in url else ""


def _to_folder(url: str, scheme: str) -> Path:
    if not scheme:
        return Path(url).expanduser()
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"} or not parts.path:
        message = f"{url[:200]!r} names no folder of this machine; write {EXAMPLES}"
        raise ConfigurationError(message)
    return Path(unquote(parts.path))


def _to_path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
