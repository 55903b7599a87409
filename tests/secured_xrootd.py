"""Real XRootD servers on 127.0.0.1 that demand a VOMS proxy (GSI) or a bearer token, over root:// and https://."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from grid_pki import VO, Pair, TestAuthority
from xrootd_server import free_port, require_xrootd, start_program, wait_until_listening

_COMMON = """\
all.export /store r/o
oss.localroot {folder}/data
all.adminpath {folder}/admin
all.pidpath {folder}/run
xrd.port {port}
xrd.network nodnr
xrd.tls {cert} {key}
xrd.tlsca certdir {ca}
xrootd.seclib libXrdSec.so
ofs.authorize 1
xrd.protocol http:{https_port} libXrdHttp.so
"""
_GSI = (
    _COMMON
    + """\
sec.protocol gsi -certdir:{ca} -cert:{cert} -key:{key} -gmapopt:10 -crl:0 {voms}
sec.protbind * only gsi
acc.authdb {folder}/authdb
http.secxtractor libXrdVoms.so
"""
)
_TOKEN = (
    _COMMON
    + """\
xrootd.tls capable all
sec.protocol ztn
sec.protbind * only ztn
ofs.authlib libXrdAccSciTokens.so config={folder}/scitokens.cfg
http.header2cgi Authorization authz
"""
)
AUDIENCE = "https://servicex.test"


@dataclass(frozen=True, slots=True)
class SecuredServer:
    """A running server; what lies in `folder` is served below `/store`."""

    port: int
    https_port: int
    folder: Path
    log: Path

    def url(self, name: str) -> str:
        return f"root://localhost:{self.port}//store/{name}"

    def https_url(self, name: str) -> str:
        return f"https://localhost:{self.https_port}/store/{name}"


class TokenIssuer:
    """Signs tokens, and tells over https how to check them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def sign(self, *, life_s: int = 3600, scope: str = "read:/ storage.read:/", subject: str = "jane") -> str:
        """A token that is valid for so long; one that is over with a negative life."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": subject,
            "aud": AUDIENCE,
            "scope": scope,
            "nbf": min(now, now + life_s) - 60,
            "iat": min(now, now + life_s) - 60,
            "exp": now + life_s,
            "wlcg.ver": "1.0",
            "jti": os.urandom(8).hex(),
        }
        return jwt.encode(claims, self._key, "RS256", {"kid": "test"})

    def documents(self) -> dict[str, object]:
        """What it answers, by path."""
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"},
            "/jwks": {"keys": [{**key, "kid": "test", "alg": "RS256", "use": "sig"}]},
        }


def require_secured_xrootd() -> None:
    """Skips the test where the server or its plug-ins are missing; in CI that is an error."""
    require_xrootd()
    names = {"libXrdVoms": "xrootd-voms-plugins", "libXrdAccSciTokens": "xrootd-scitokens-plugins"}
    missing = [package for name, package in names.items() if not list(Path("/usr/lib").glob(f"*/{name}*.so"))]
    if os.geteuid() != 0:
        missing.append("rights of root, which these servers are started with")
    if missing:
        message = f"missing for tests of grid storage: {', '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@contextlib.contextmanager
def running_gsi_xrootd(
    authority: TestAuthority, host: Pair, files: Mapping[str, Path], *, needs_vo: bool = True
) -> Iterator[SecuredServer]:
    """Serves copies of `files` to members of the VO `atlas`, or to all whom the authority knows."""
    with _folder(files) as folder:
        (folder / "authdb").write_text(f"o {VO} /store lr\n" if needs_vo else "u * /store lr\n")
        voms = "-vomsat:2 -vomsfun:default" if needs_vo else "-vomsat:0"
        environment = {"X509_CERT_DIR": str(folder / "ca"), "X509_VOMS_DIR": str(folder / "vomsdir")}
        shutil.copytree(authority.voms_dir, folder / "vomsdir")
        config = _GSI.replace("{voms}", voms)
        with _running(folder, authority, host, config, environment) as server:
            yield server


@contextlib.contextmanager
def running_token_xrootd(
    authority: TestAuthority, host: Pair, files: Mapping[str, Path]
) -> Iterator[tuple[SecuredServer, TokenIssuer]]:
    """Serves copies of `files` to whoever brings a token of the issuer, which runs as well."""
    with _issuing(host) as issuer, _folder(files) as folder:
        (folder / "scitokens.cfg").write_text(
            f"[Global]\naudience = {AUDIENCE}\n\n[Issuer test]\nissuer = {issuer.url}\nbase_path = /store\n"
        )
        environment = {"XDG_CACHE_HOME": str(folder / "run")}
        with _running(folder, authority, host, _TOKEN, environment, trusts_system=True) as server:
            yield server, issuer


@contextlib.contextmanager
def _folder(files: Mapping[str, Path]) -> Iterator[Path]:
    # Not below pytest's folder: the server drops root's rights and could not pass the folders above.
    folder = Path(tempfile.mkdtemp(prefix="xrootd-test-"))
    try:
        for name in ("data/store", "admin", "run", "log"):
            (folder / name).mkdir(parents=True)
        for name, source in files.items():
            shutil.copyfile(source, folder / "data" / "store" / name)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _running(
    folder: Path,
    authority: TestAuthority,
    host: Pair,
    config: str,
    environment: Mapping[str, str],
    *,
    trusts_system: bool = False,
) -> Iterator[SecuredServer]:
    shutil.copytree(authority.cert_dir, folder / "ca")
    for source, name, mode in ((host.cert, "host.pem", 0o644), (host.key, "host.key", 0o400)):
        shutil.copyfile(source, folder / name)
        (folder / name).chmod(mode)
    port, https_port = free_port(), free_port()
    (folder / "server.cfg").write_text(
        config.format(
            folder=folder,
            ca=folder / "ca",
            cert=folder / "host.pem",
            key=folder / "host.key",
            port=port,
            https_port=https_port,
        )
    )
    prefix: list[str] = []
    if trusts_system:
        # The token library trusts the system's certificates: so those are others for this process.
        bundle = "/etc/ssl/certs/ca-certificates.crt"
        script = f'mount --bind "$1" {bundle} && shift && exec "$@"'
        prefix = ["unshare", "-m", "sh", "-c", script, "sh", str(authority.ca_file)]
    process = start_program(folder, environment=environment, prefix=prefix)
    try:
        log = folder / "log" / "server.log"
        wait_until_listening(process, port, log)
        wait_until_listening(process, https_port, log)
        yield SecuredServer(port, https_port, folder / "data" / "store", log)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _issuing(host: Pair) -> Iterator[TokenIssuer]:
    """An issuer of tokens on https://localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(host.cert, host.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    issuer = TokenIssuer(f"https://localhost:{server.server_port}")
    server.RequestHandlerClass = partial(_Documents, issuer.documents())
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Documents(BaseHTTPRequestHandler):
    def __init__(self, documents: Mapping[str, object], *args: object) -> None:
        self._documents = documents
        super().__init__(*args)  # type: ignore[arg-type]  # what the server hands over

    def do_GET(self) -> None:
        document = self._documents.get(self.path)
        body = json.dumps(document).encode()
        self.send_response(404 if document is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Says nothing."""
