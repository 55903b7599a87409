"""Who we are to the store: from arguments, files, or the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from servicex_server.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class S3Credential:
    """A key pair, and the token that makes it valid if it is a passing one."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


CredentialSource = Callable[[], S3Credential]
"""Asked again every minute, so that keys may be replaced while the server runs."""


def find_credentials(
    *,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    access_key_file: Path | None = None,
    secret_key_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> CredentialSource:
    """The source that is given: arguments, or files, or else what the AWS tools would take.

    The latter are `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, `~/.aws/credentials`, a role of the
    container or of the machine.

    Raises:
        ConfigurationError: half of a pair is missing, or a file cannot be read.
    """
    if access_key_id is not None or secret_access_key is not None:
        if not access_key_id or not secret_access_key:
            message = "the result store needs both an access key id and a secret access key"
            raise ConfigurationError(message)
        credential = S3Credential(access_key_id, secret_access_key, session_token)
        return lambda: credential
    if access_key_file is not None or secret_key_file is not None:
        if access_key_file is None or secret_key_file is None:
            message = "the result store needs both a file of the access key id and one of the secret key"
            raise ConfigurationError(message)
        source = partial(_read_files, access_key_file, secret_key_file)
        source()
        return source
    environment = os.environ if environment is None else environment
    if environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"):
        credential = S3Credential(
            environment["AWS_ACCESS_KEY_ID"],
            environment["AWS_SECRET_ACCESS_KEY"],
            environment.get("AWS_SESSION_TOKEN") or None,
        )
        return lambda: credential
    return _AwsChain()


def _read_files(access_key_file: Path, secret_key_file: Path) -> S3Credential:
    texts = []
    for path in (access_key_file, secret_key_file):
        try:
            text = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            message = f"the result store's key file {path} cannot be read: {why}"
            raise ConfigurationError(message) from error
        if not text:
            message = f"the result store's key file {path} is empty"
            raise ConfigurationError(message)
        texts.append(text)
    return S3Credential(texts[0], texts[1])


class _AwsChain:
    """What botocore finds in files and roles; it renews passing credentials by itself."""

    def __init__(self) -> None:
        self._found: Any = None

    def __call__(self) -> S3Credential:
        if self._found is None:
            from botocore.session import get_session  # noqa: PLC0415  slow, and seldom needed

            self._found = get_session().get_credentials()
        if self._found is None:
            message = (
                "the result store needs credentials: set them, name their files, or use AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY"
            )
            raise ConfigurationError(message)
        frozen = self._found.get_frozen_credentials()
        return S3Credential(frozen.access_key, frozen.secret_key, frozen.token)
