"""What a proxy file says: whose it is, for which VO, and until when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from servicex_server.errors import CredentialError
from servicex_server.grid import voms

if TYPE_CHECKING:
    from cryptography import x509

PROXY_INFO = "1.3.6.1.5.5.7.1.14"
"""Object identifier of the extension that makes a certificate a proxy (https://www.rfc-editor.org/rfc/rfc3820)."""

LARGEST_BYTES = 2**20
"""No file of credentials is larger."""

_LEGACY_NAMES = ("proxy", "limited proxy")
_SHORT_NAMES = {"1.2.840.113549.1.9.1": "emailAddress"}
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN ((RSA|EC) )?PRIVATE KEY-----.+?-----END ((RSA|EC) )?PRIVATE KEY-----", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, without what is secret in it.

    Attributes:
        subject: of the certificate that it stands for, `/DC=org/…/CN=Name`.
        vo: the VO whose attributes it carries; None for a plain proxy.
        names: groups and roles in that VO.
        expires_at: when it or its attributes end, whichever is first.
    """

    subject: str
    vo: str | None
    names: tuple[str, ...]
    begins_at: datetime
    expires_at: datetime

    def __str__(self) -> str:
        vo = f" of VO {self.vo}" if self.vo else ""
        return f"{self.subject}{vo}, until {self.expires_at:%Y-%m-%d %H:%M:%S} UTC"


def load_proxy(path: Path) -> Proxy | None:
    """The proxy in the file; None if there is no such file.

    Raises:
        CredentialError: it cannot be read, or is no proxy.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"the proxy {path} cannot be read: {error.strerror}"
        raise CredentialError(message) from error
    try:
        return parse_proxy(content)
    except CredentialError as error:
        message = f"{path}: {error.message}"
        raise CredentialError(message) from error


def parse_proxy(pem: bytes) -> Proxy:
    """The proxy in the content of a file.

    Raises:
        CredentialError: it is none, or its key is missing or another one.
    """
    require_cryptography()
    from cryptography import x509  # noqa: PLC0415  heavy, and not everywhere
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        chain = x509.load_pem_x509_certificates(pem)
        key = _PRIVATE_KEY.search(pem)
        if key is None:
            message = "not a proxy: it holds no private key"
            raise CredentialError(message)
        fits = load_pem_private_key(key[0], None).public_key() == chain[0].public_key()
        attributes = [found for each in chain for found in _attributes(each)]
    except (ValueError, TypeError) as error:
        message = f"not a proxy: {error}"
        raise CredentialError(message) from error
    if not fits:
        message = "not a proxy: its key does not belong to its first certificate"
        raise CredentialError(message)
    owner = next((each for each in chain if not _is_proxy(each)), None)
    if owner is None or owner is chain[0]:
        message = (
            "not a proxy, but a certificate" if owner else "not a proxy: it lacks the owner's certificate"
        )
        raise CredentialError(message)
    return Proxy(
        subject=to_slashes(owner.subject),
        vo=attributes[0].vo if attributes else None,
        names=tuple(name for found in attributes for name in found.names),
        begins_at=max(each.not_valid_before_utc for each in chain),
        expires_at=min(
            *(each.not_valid_after_utc for each in chain), *(found.expires_at for found in attributes)
        ),
    )


def require_cryptography() -> None:
    """Raises CredentialError where the package is missing; says how to install it."""
    try:
        import cryptography  # noqa: F401, PLC0415  (only to see whether it is there)
    except ImportError as error:
        message = "looking into certificates needs a package: pip install 'servicex-server[grid]'"
        raise CredentialError(message) from error


def to_slashes(name: x509.Name) -> str:
    """A name as grid tools write it: `/DC=org/DC=example/CN=Name`."""
    parts = [
        (_SHORT_NAMES.get(each.oid.dotted_string, each.rfc4514_attribute_name), each.value) for each in name
    ]
    return "".join(f"/{short}={value!s}" for short, value in parts)


def _is_proxy(certificate: x509.Certificate) -> bool:
    from cryptography import x509  # noqa: PLC0415

    if any(each.oid.dotted_string == PROXY_INFO for each in certificate.extensions):
        return True
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return bool(names) and names[-1].value in _LEGACY_NAMES


def _attributes(certificate: x509.Certificate) -> list[voms.Attributes]:
    found: list[voms.Attributes] = []
    for extension in certificate.extensions:
        if extension.oid.dotted_string == voms.EXTENSION:
            found += voms.parse_attributes(extension.value.public_bytes())
    return found
