"""A small stand-in for a Kubernetes API server: Secrets, a service account's token, one namespace."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from grid_pki import Pair, TestAuthority
from servicex_server.grid.kubernetes import Cluster, find_cluster

NAMESPACE = "analysis"
_PREFIX = f"/api/v1/namespaces/{NAMESPACE}/secrets"


@dataclass
class FakeApi:
    """What the server holds and how it behaves.

    Attributes:
        secrets: by name, as they are sent.
        token: what callers have to bring; empty for nothing.
        fault: status to answer everything with; 0 for none.
        asked: verb and path of each request.
    """

    account: Path
    port: int = 0
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    token: str = "account-token"
    fault: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)

    def cluster(self, namespace: str | None = None) -> Cluster:
        """The cluster as a pod in it finds it."""
        (self.account / "token").write_text(self.token + "\n")
        environment = {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(self.port)}
        return find_cluster(namespace, account=self.account, environment=environment)

    def values(self, name: str) -> dict[str, bytes]:
        """The values in a Secret."""
        return {key: base64.b64decode(value) for key, value in self.secrets[name]["data"].items()}

    def answer(self, verb: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, object]:
        """Status and document."""
        self.asked.append((verb, path))
        if self.fault:
            return self.fault, {"kind": "Status", "message": "the fault that was asked for"}
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"kind": "Status", "message": "Unauthorized"}
        if not path.startswith(_PREFIX):
            message = "secrets is forbidden: User cannot do this in this namespace"
            return 403, {"kind": "Status", "message": message}
        name = path.removeprefix(_PREFIX).strip("/")
        if verb == "POST":
            return self._create(json.loads(body))
        if name not in self.secrets:
            return 404, {"kind": "Status", "message": f'secrets "{name}" not found'}
        if verb == "DELETE":
            return 200, self.secrets.pop(name)
        if verb == "PATCH":
            if headers.get("content-type") != "application/merge-patch+json":
                return 415, {"kind": "Status", "message": "the body of the request was in an unknown format"}
            self._merge(self.secrets[name], json.loads(body))
        return 200, self.secrets[name]

    def _create(self, secret: dict[str, Any]) -> tuple[int, object]:
        name = secret["metadata"]["name"]
        if name in self.secrets:
            return 409, {"kind": "Status", "message": f'secrets "{name}" already exists'}
        assert (secret["apiVersion"], secret["kind"]) == ("v1", "Secret")
        for value in secret["data"].values():
            base64.b64decode(value, validate=True)
        self.secrets[name] = secret
        return 201, secret

    def _merge(self, into: dict[str, Any], patch: dict[str, Any]) -> None:
        """https://www.rfc-editor.org/rfc/rfc7386"""
        for key, value in patch.items():
            if value is None:
                into.pop(key, None)
            elif isinstance(value, dict):
                self._merge(into.setdefault(key, {}), value)
            else:
                into[key] = value


@contextmanager
def running_kubernetes_api(authority: TestAuthority, host: Pair, account: Path) -> Iterator[FakeApi]:
    """The server on https://localhost, and the folder that a pod of its would find.

    Args:
        authority: signed the host's certificate.
        host: certificate of localhost.
        account: folder to be made.
    """
    account.mkdir()
    (account / "ca.crt").write_bytes(authority.ca_file.read_bytes())
    (account / "namespace").write_text(NAMESPACE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(host.cert, host.key)
    with _serving(FakeApi(account), context) as api:
        yield api


@contextmanager
def running_kubectl_proxy(folder: Path) -> Iterator[FakeApi]:
    """What `kubectl proxy` offers: the same on http://127.0.0.1, with its user's own credentials."""
    with _serving(FakeApi(folder, token=""), None) as api:
        yield api


@contextmanager
def _serving(api: FakeApi, context: ssl.SSLContext | None) -> Iterator[FakeApi]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(api))
    api.port = server.server_port
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(api: FakeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            status, document = api.answer(self.command, self.path, headers, body)
            answer = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815  names that the server looks for

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    return Handler
