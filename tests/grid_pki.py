"""A certificate authority for tests, and what it signs: hosts, users, VOMS proxies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

VO = "atlas"
VOMS_HOST = "voms.localhost"
_SIGNING_POLICY = """\
access_id_CA   X509   '/DC=test/DC=servicex/CN=Test CA'
pos_rights     globus CA:sign
cond_subjects  globus '"/DC=test/DC=servicex/*"'
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files.

    Attributes:
        subject: as grid tools write it, `/DC=…/CN=…`.
    """

    cert: Path
    key: Path
    subject: str


class TestAuthority:
    """A CA whose certificate directory is fit for XRootD, VOMS and OpenSSL."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cert_dir = folder / "certificates"
        self.voms_dir = folder / "vomsdir"
        self.cert_dir.mkdir(parents=True)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._name = _name("Test CA")
        self._cert = self._sign(self._name, self._key.public_key(), days=30, is_ca=True)
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))
        self._hash_directory()

    def issue(
        self, name: str, *, passphrase: bytes | None = None, hosts: tuple[str, ...] = (), days: float = 20
    ) -> Pair:
        """A certificate with that common name; `days` may be negative for one that is over."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        cert = self._sign(_name(name), key.public_key(), days=days, hosts=hosts)
        folder = self.folder / name.replace(" ", "_")
        folder.mkdir()
        pair = Pair(folder / "usercert.pem", folder / "userkey.pem", f"/DC=test/DC=servicex/CN={name}")
        pair.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase is not None:
            protection = serialization.BestAvailableEncryption(passphrase)
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, protection
            )
        )
        return pair

    def found_vo(self, vo: str = VO) -> Pair:
        """The key pair of a VO's server, which `voms_dir` makes trusted."""
        pair = self.issue(VOMS_HOST, hosts=(VOMS_HOST,))
        (self.voms_dir / vo).mkdir(parents=True)
        chain = f"{pair.subject}\n/DC=test/DC=servicex/CN=Test CA\n"
        (self.voms_dir / vo / f"{VOMS_HOST}.lsc").write_text(chain)
        return pair

    def environment(self) -> dict[str, str]:
        """Where grid tools find the authority, and nothing else."""
        hidden = ("X509_", "BEARER_TOKEN", "SERVICEX_", "XrdSec")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        return kept | {"X509_CERT_DIR": str(self.cert_dir), "X509_VOMS_DIR": str(self.voms_dir)}

    def _sign(
        self,
        subject: x509.Name,
        public_key: rsa.RSAPublicKey,
        *,
        days: float,
        is_ca: bool = False,
        hosts: tuple[str, ...] = (),
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=40 if days < 0 else 1))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if is_ca:
            builder = builder.add_extension(_usage(signs=True), critical=True)
        else:
            builder = builder.add_extension(_usage(signs=False), critical=True)
        if hosts:
            names = [x509.DNSName(host) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _hash_directory(self) -> None:
        command = ["openssl", "x509", "-in", str(self.ca_file), "-noout", "-subject_hash"]
        stem = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        shutil.copyfile(self.ca_file, self.cert_dir / f"{stem}.0")
        (self.cert_dir / f"{stem}.signing_policy").write_text(_SIGNING_POLICY)
        now = datetime.now(UTC)
        revoked = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - timedelta(days=1))
            .next_update(now + timedelta(days=30))
            .sign(self._key, hashes.SHA256())
        )
        (self.cert_dir / f"{stem}.r0").write_bytes(revoked.public_bytes(serialization.Encoding.PEM))


def fake_voms_proxy(
    authority: TestAuthority,
    user: Pair,
    server: Pair,
    out: Path,
    *,
    vo: str = VO,
    role: str = "NULL",
    life_s: int = 12 * 3600,
) -> None:
    """Makes a VOMS proxy with the attributes of `vo`, signed by `server`, as a VOMS server would.

    Args:
        life_s: what is left of its life; the command knows hours only, so it begins in the past.
    """
    hours = max(1, -(-life_s // 3600))
    past = str(hours * 3600 - life_s)
    names = [f"/{vo}/Role=NULL/Capability=NULL"]
    if role != "NULL":
        names.insert(0, f"/{vo}/Role={role}/Capability=NULL")
    command = ["voms-proxy-fake", "-rfc", "-cert", user.cert, "-key", user.key]
    command += ["-certdir", authority.cert_dir, "-hostcert", server.cert, "-hostkey", server.key]
    command += ["-voms", vo, "-uri", f"{VOMS_HOST}:15001", "-bits", "2048", "-out", out]
    command += ["-hours", hours, "-vomslife", hours, "-pastproxy", past, "-pastac", past]
    for name in names:
        command += ["-fqan", name]
    done = subprocess.run(
        list(map(str, command)), env=authority.environment(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or not out.exists():
        message = f"voms-proxy-fake failed: {done.stdout}{done.stderr}"
        raise RuntimeError(message)


_STAND_IN = """\
#!{python}
# Takes the arguments of voms-proxy-init 2.1 and calls voms-proxy-fake: no VOMS server can run here.
import argparse, pathlib, subprocess, sys
folder = pathlib.Path(__file__).parent
parser = argparse.ArgumentParser(allow_abbrev=False)
for flag in ("-rfc", "-pwstdin"):
    parser.add_argument(flag, action="store_true", required=True)
for option in ("-cert", "-key", "-voms", "-valid", "-bits", "-out", "-certdir"):
    parser.add_argument(option, required=option != "-certdir")
asked = parser.parse_args()
passphrase = sys.stdin.readline()
with (folder / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
vo, _, wanted = asked.voms.partition(":")
if (folder / "fault").exists():
    sys.exit((folder / "fault").read_text())
if vo != "{vo}":
    sys.exit(f"VOMS Server for {{vo}} not known!")
key = folder / "opened.key"
opened = subprocess.run(
    ["openssl", "rsa", "-in", asked.key, "-passin", "stdin", "-out", key], input=passphrase, text=True
)
if opened.returncode:
    sys.exit(3)
life = folder / "life_s"
hours = int(asked.valid.partition(":")[0]) or 1
past = str(hours * 3600 - int(life.read_text())) if life.exists() else "0"
names = ["/{vo}/Role=NULL/Capability=NULL"]
if wanted:
    names.insert(0, wanted + "/Capability=NULL")
command = ["voms-proxy-fake", "-rfc", "-cert", asked.cert, "-key", key]
command += ["-certdir", asked.certdir or "{certdir}"]
command += ["-hostcert", "{hostcert}", "-hostkey", "{hostkey}", "-voms", vo, "-uri", "{host}:15001"]
command += ["-bits", asked.bits, "-out", asked.out, "-hours", str(hours), "-vomslife", str(hours)]
command += ["-pastproxy", past, "-pastac", past]
for name in names:
    command += ["-fqan", name]
sys.exit(subprocess.run([str(each) for each in command]).returncode)
"""


@dataclass(frozen=True, slots=True)
class VomsStandIn:
    """A folder for the front of PATH, with a `voms-proxy-init` that needs no VOMS server."""

    folder: Path

    def fail(self, words: str | None) -> None:
        """From now on the command fails with these words; None ends that."""
        if words is None:
            (self.folder / "fault").unlink(missing_ok=True)
        else:
            (self.folder / "fault").write_text(words)

    def grant(self, life_s: int) -> None:
        """From now on proxies live so long."""
        (self.folder / "life_s").write_text(str(life_s))

    def calls(self) -> list[str]:
        """The arguments of each call."""
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []


def make_voms_stand_in(authority: TestAuthority, server: Pair, folder: Path) -> VomsStandIn:
    """Puts the command into the folder."""
    folder.mkdir()
    script = folder / "voms-proxy-init"
    script.write_text(
        _STAND_IN.format(
            python=sys.executable,
            vo=VO,
            certdir=authority.cert_dir,
            hostcert=server.cert,
            hostkey=server.key,
            host=VOMS_HOST,
        )
    )
    script.chmod(0o755)
    return VomsStandIn(folder)


def require_voms() -> None:
    """Skips the test, with a reason, where the VOMS commands are missing; in CI that is an error."""
    if shutil.which("voms-proxy-init") and shutil.which("voms-proxy-fake"):
        return
    message = "missing: voms-proxy-init and voms-proxy-fake (apt-get install voms-clients)"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "test"),
            x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "servicex"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
