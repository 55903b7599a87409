"""A user's certificate and its key, from which proxies are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from servicex_server.errors import CredentialError
from servicex_server.grid.proxy import LARGEST_BYTES, require_cryptography, to_slashes

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_WARN_DAYS = 14
"""Authorities take days to issue a new certificate."""

CERT_NAME, KEY_NAME = "usercert.pem", "userkey.pem"

_INSTALL = "`servicex-server init` puts certificates in place"
FROM_P12 = (
    f"needed are {CERT_NAME} and {KEY_NAME}, and --cert-dir names their folder; from the .p12 file of an "
    f"authority or browser make them with `openssl pkcs12 -in cert.p12 -clcerts -nokeys -out {CERT_NAME}` "
    f"and `openssl pkcs12 -in cert.p12 -nocerts -out {KEY_NAME}` (older files: with -legacy), then "
    f"`chmod 400 {KEY_NAME}`"
)


@dataclass(frozen=True, slots=True)
class UserFiles:
    """Where a certificate and its key lie.

    Attributes:
        advice: what to do if they do not.
    """

    folder: Path
    advice: str = _INSTALL

    @property
    def cert(self) -> Path:
        return self.folder / CERT_NAME

    @property
    def key(self) -> Path:
        return self.folder / KEY_NAME


@dataclass(frozen=True, slots=True)
class UserCertificate:
    """What the files hold, as they are; the key as protected as there.

    Attributes:
        subject: `/DC=org/…/CN=Name`.
    """

    subject: str
    expires_at: datetime
    cert_pem: bytes
    key_pem: bytes = field(repr=False)

    @property
    def is_protected(self) -> bool:
        """Whether it takes a passphrase to use the key."""
        return b"ENCRYPTED" in self.key_pem

    def is_ending(self, now: datetime | None = None) -> bool:
        """Whether it ends so soon that somebody should ask for a new one."""
        return (self.expires_at - (now or datetime.now(UTC))).days < _WARN_DAYS

    def require_valid(self, now: datetime | None = None) -> None:
        """Raises CredentialError if the certificate is over."""
        if self.expires_at <= (now or datetime.now(UTC)):
            message = (
                f"the certificate of {self.subject} expired on {self.expires_at:%Y-%m-%d}; get a new one"
            )
            raise CredentialError(message)


def load_certificate(files: UserFiles) -> UserCertificate:
    """The certificate and key of that folder; whether they belong together is not known yet.

    Raises:
        CredentialError: one of them is missing, or no such thing.
    """
    require_cryptography()
    cert_pem, key_pem = _read(files.cert, files.advice), _read(files.key, files.advice)
    if b"PRIVATE KEY-----" not in key_pem:
        message = f"{files.key} holds no private key in PEM format"
        raise CredentialError(message)
    certificate = parse_chain(cert_pem, str(files.cert))[0]
    return UserCertificate(
        to_slashes(certificate.subject), certificate.not_valid_after_utc, cert_pem, key_pem
    )


def open_key(user: UserCertificate, passphrase: bytes | None) -> RSAPrivateKey:
    """The certificate's key.

    Raises:
        CredentialError: it takes another passphrase, belongs to another certificate, or is no RSA key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    if user.is_protected and not passphrase:
        message = f"the key of {user.subject} has a passphrase: give it on the standard input"
        raise CredentialError(message)
    try:
        key = load_pem_private_key(user.key_pem, passphrase if user.is_protected else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not `from error`: what the library says might hold parts of what it was given.
        problem = "the passphrase is wrong" if user.is_protected else "it is damaged"
        message = f"the key of {user.subject} cannot be opened: {problem}"
        raise CredentialError(message) from None
    if not isinstance(key, RSAPrivateKey):
        message = f"the key of {user.subject} is no RSA key, which grid proxies need"
        raise CredentialError(message)
    if key.public_key() != parse_chain(user.cert_pem, CERT_NAME)[0].public_key():
        message = f"{KEY_NAME} is not the key of the certificate {user.subject} in {CERT_NAME}"
        raise CredentialError(message)
    return key


def parse_chain(pem: bytes, shown: str) -> list[x509.Certificate]:
    """The certificates in a PEM text, one or more.

    Raises:
        CredentialError: there is none.
    """
    from cryptography import x509  # noqa: PLC0415

    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        message = f"{shown} holds no certificate in PEM format"
        raise CredentialError(message) from error


def _read(path: Path, advice: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        hint = f"; {advice}" if isinstance(error, FileNotFoundError) else ""
        message = f"cannot read {path}: {error.strerror}{hint}"
        raise CredentialError(message) from error
    if len(content) > LARGEST_BYTES:
        message = f"{path} is larger than {LARGEST_BYTES} bytes: no certificate or key"
        raise CredentialError(message)
    return content
