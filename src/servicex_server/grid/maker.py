"""Makers of proxies: `voms-proxy-init`, and for proxies of no VO the package cryptography."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from servicex_server.errors import CredentialError
from servicex_server.grid.certificate import UserFiles, load_certificate, open_key, parse_chain
from servicex_server.grid.protocol import ProxyMaker
from servicex_server.grid.proxy import LARGEST_BYTES, PROXY_INFO, Proxy, parse_proxy
from servicex_server.grid.voms_failure import explain_failure

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

VOMS_COMMAND = "voms-proxy-init"
_KEY_BITS = 2048
_WITHIN_S = 120.0
"""VOMS servers answer within seconds, or the next one is asked."""
_INHERIT_ALL = bytes.fromhex("300c300a06082b06010505071501")
"""ProxyCertInfo without a bound on further proxies and with the policy id-ppl-inheritAll, as DER."""


@dataclass(frozen=True, slots=True)
class ProxyWish:
    """What the proxy shall be.

    Attributes:
        vo: whose attributes it shall carry; None for none.
        role: in that VO; None for whatever its members get.
        life_s: how long it shall live; a VO's server may grant less.
        cert_dir: certificates of the grid's authorities; None for where the tools look by themselves.
    """

    vo: str | None = None
    role: str | None = None
    life_s: float = 96 * 3600.0
    cert_dir: Path | None = None

    def require_granted(self, proxy: Proxy) -> None:
        """Raises CredentialError unless the proxy is what was wished for."""
        if self.vo is not None and proxy.vo != self.vo:
            message = f"the new proxy is of {f'the VO {proxy.vo}' if proxy.vo else 'no VO'}, not of {self.vo}"
            raise CredentialError(message)
        if self.role is not None and not any(f"/Role={self.role}/" in f"{name}/" for name in proxy.names):
            message = f"the new proxy lacks the role {self.role}; it has {', '.join(proxy.names)}"
            raise CredentialError(message)


def choose_maker(files: UserFiles, wish: ProxyWish) -> ProxyMaker:
    """The maker for such proxies on this machine.

    Raises:
        CredentialError: a VO's attributes are wished for, and the command that gets them is not installed.
    """
    if wish.vo is None:
        return PlainProxy(files, wish)
    program = shutil.which(VOMS_COMMAND)
    if program is None:
        message = (
            f"a proxy of VO {wish.vo} needs the command {VOMS_COMMAND}, not installed here (package "
            "voms-clients, voms-clients-cpp or voms-clients-java); one without attributes would open nothing"
        )
        raise CredentialError(message)
    return VomsProxyInit(files, wish, program)


@dataclass(frozen=True, slots=True)
class VomsProxyInit:
    """Asks the VO's servers for attributes through the command of the VOMS project, C++ or Java."""

    files: UserFiles
    wish: ProxyWish
    program: str = VOMS_COMMAND

    def make(self, passphrase: bytes | None) -> bytes:
        user = load_certificate(self.files)
        user.require_valid()
        # What the command says about a wrong passphrase differs by version; it is not even started then.
        open_key(user, passphrase)
        with tempfile.TemporaryDirectory(prefix="servicex-proxy-") as folder:
            out = Path(folder) / "proxy"
            said = self._run(out, passphrase or b"")
            try:
                pem = out.read_bytes()[:LARGEST_BYTES]
            except OSError as error:
                message = f"{VOMS_COMMAND} wrote no proxy: {said}"
                raise CredentialError(message) from error
        return pem

    def _run(self, out: Path, passphrase: bytes) -> str:
        """Runs the command; returns what matters of what it said.

        Raises:
            CredentialError: it failed, or takes too long.
        """
        # The command keeps random bytes from one run to the next, and complains where there are none.
        random = out.with_name("random")
        random.write_bytes(secrets.token_bytes(1024))
        try:
            done = subprocess.run(
                self._command(out),
                input=passphrase + b"\n",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._environment() | {"RANDFILE": str(random)},
                timeout=_WITHIN_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            vo = self.wish.vo
            message = f"{VOMS_COMMAND} did not end within {_WITHIN_S:g} s; the servers of {vo} do not answer"
            raise CredentialError(message) from None
        except OSError as error:
            message = f"{self.program} cannot be started: {error.strerror}"
            raise CredentialError(message) from error
        said = done.stdout.decode(errors="replace")
        secret = passphrase.decode(errors="replace")
        said = explain_failure(said.replace(secret, "***") if secret else said, self.wish.vo or "")
        if done.returncode != 0:
            message = f"{VOMS_COMMAND} failed (exit code {done.returncode}): {said}"
            raise CredentialError(message)
        return said

    def _command(self, out: Path) -> list[str]:
        minutes = max(1, int(self.wish.life_s // 60))
        valid = f"{minutes // 60}:{minutes % 60:02d}"
        vo = self.wish.vo or ""
        asked = f"{vo}:/{vo}/Role={self.wish.role}" if self.wish.role else vo
        command = [
            self.program,
            "-rfc",
            "-pwstdin",
            "-cert",
            str(self.files.cert),
            "-key",
            str(self.files.key),
        ]
        command += ["-voms", asked, "-valid", valid, "-bits", str(_KEY_BITS), "-out", str(out)]
        return command + (["-certdir", str(self.wish.cert_dir)] if self.wish.cert_dir else [])

    def _environment(self) -> dict[str, str]:
        # An old proxy must not stand in for the certificate, nor are our settings the command's business.
        kept = {
            name: value
            for name, value in os.environ.items()
            if name != "X509_USER_PROXY" and not name.startswith("SERVICEX_")
        }
        return kept | ({"X509_CERT_DIR": str(self.wish.cert_dir)} if self.wish.cert_dir else {})


@dataclass(frozen=True, slots=True)
class PlainProxy:
    """Makes proxies of no VO (https://www.rfc-editor.org/rfc/rfc3820#section-3)."""

    files: UserFiles
    wish: ProxyWish

    def make(self, passphrase: bytes | None) -> bytes:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

        user = load_certificate(self.files)
        user.require_valid()
        signer = open_key(user, passphrase)
        chain = parse_chain(user.cert_pem, str(self.files.cert))
        key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        proxy = _sign_proxy(chain[0], signer, key, timedelta(seconds=self.wish.life_s))
        # The key in the old form: grid tools of all versions read it.
        key_pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        to_pem = serialization.Encoding.PEM
        return proxy.public_bytes(to_pem) + key_pem + b"".join(each.public_bytes(to_pem) for each in chain)


def checked(pem: bytes, wish: ProxyWish) -> Proxy:
    """The proxy in what a maker made.

    Raises:
        CredentialError: it is none, has ended, or is not what was wished for.
    """
    proxy = parse_proxy(pem)
    if proxy.expires_at <= datetime.now(UTC):
        message = f"the new proxy has ended already: {proxy}; is the clock right?"
        raise CredentialError(message)
    wish.require_granted(proxy)
    return proxy


def _sign_proxy(
    owner: x509.Certificate, signer: RSAPrivateKey, key: RSAPrivateKey, life: timedelta
) -> x509.Certificate:
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415

    number = secrets.randbelow(2**31 - 1) + 1
    common_name = x509.RelativeDistinguishedName([x509.NameAttribute(x509.NameOID.COMMON_NAME, str(number))])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    info = x509.UnrecognizedExtension(x509.ObjectIdentifier(PROXY_INFO), _INHERIT_ALL)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*owner.subject.rdns, common_name]))
        .issuer_name(owner.subject)
        .public_key(key.public_key())
        .serial_number(number)
        # Clocks of storage may be a little behind.
        .not_valid_before(max(owner.not_valid_before_utc, now - timedelta(minutes=5)))
        .not_valid_after(min(owner.not_valid_after_utc, now + life))
        .add_extension(usage, critical=True)
        .add_extension(info, critical=True)
        .sign(signer, hashes.SHA256())
    )
