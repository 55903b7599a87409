"""Secrets of a Kubernetes cluster, through its API server.

In a pod the pod's service account is used; elsewhere `kubectl proxy`, which has its user's own rights.
https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/secret-v1/
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from servicex_server.errors import ConfigurationError, CredentialError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds the credentials of its service account."""

_WITHIN_S = 15.0
_MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Cluster:
    """How the API server is reached, and the namespace that is meant.

    Attributes:
        account: folder with `token` and `ca.crt`; None where the API server asks for neither.
    """

    url: str
    namespace: str
    account: Path | None = None

    def read_secret(self, name: str) -> dict[str, bytes] | None:
        """The values in a Secret; None if there is no such Secret.

        Raises:
            CredentialError: the API server does not say.
        """
        answer = self._ask("GET", name, missing_is_fine=True)
        if answer is None:
            return None
        data = answer.get("data") or {}
        try:
            return {str(key): base64.b64decode(value, validate=True) for key, value in data.items()}
        except (AttributeError, TypeError, ValueError, binascii.Error) as error:
            message = f"the Secret {name} is not what the API server promises"
            raise CredentialError(message) from error

    def write_secret(self, name: str, values: Mapping[str, bytes | None]) -> None:
        """Puts these values into the Secret, which is made if it is missing; other values in it stay.

        Args:
            values: by key; None removes the key.

        Raises:
            CredentialError: it could not be done; what was there is still there.
        """
        data = {
            key: None if value is None else base64.b64encode(value).decode() for key, value in values.items()
        }
        if self._ask("PATCH", name, {"data": data}, missing_is_fine=True) is not None:
            return
        labels = {"app.kubernetes.io/managed-by": "servicex-server"}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": labels},
            "type": "Opaque",
            "data": {key: value for key, value in data.items() if value is not None},
        }
        self._ask("POST", "", secret)

    def delete_secret(self, name: str) -> bool:
        """Whether there was such a Secret; it is gone now.

        Raises:
            CredentialError: it could not be removed.
        """
        return self._ask("DELETE", name, missing_is_fine=True) is not None

    def _ask(
        self, verb: str, name: str, body: object = None, *, missing_is_fine: bool = False
    ) -> dict[str, Any] | None:
        """The API server's answer; None for one that says there is no such thing."""
        path = f"/api/v1/namespaces/{quote(self.namespace, safe='')}/secrets"
        path += f"/{quote(name, safe='')}" if name else ""
        shown = f"{verb} Secret {name or 'new'} in namespace {self.namespace}"
        try:
            headers, verify = self._credentials()
            if verb == "PATCH":
                headers["Content-Type"] = _MERGE
            # Not through the proxies that the environment names: the API server is near.
            with httpx.Client(base_url=self.url, verify=verify, timeout=_WITHIN_S, trust_env=False) as client:
                answer = client.request(verb, path, json=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            message = f"the Kubernetes API server {self.url} does not answer ({shown}): {error}"
            raise CredentialError(message) from error
        if answer.status_code == httpx.codes.NOT_FOUND and missing_is_fine:
            return None
        if answer.is_error:
            message = f"Kubernetes refuses to {shown}: {answer.status_code}{_reason(answer)}"
            raise CredentialError(message)
        document = answer.json() if answer.content else {}
        return document if isinstance(document, dict) else {}

    def _credentials(self) -> tuple[dict[str, str], ssl.SSLContext | bool]:
        """Read anew each time: the kubelet replaces the token every hour."""
        if self.account is None:
            return {}, True
        token = (self.account / "token").read_text().strip()
        context = ssl.create_default_context(cafile=str(self.account / "ca.crt"))
        return {"Authorization": f"Bearer {token}"}, context


@dataclass(frozen=True, slots=True)
class SecretPlace:
    """A key of a Secret, which workers mount as a file."""

    cluster: Cluster
    name: str
    key: str = "x509up"

    def read(self) -> bytes | None:
        return (self.cluster.read_secret(self.name) or {}).get(self.key)

    def write(self, proxy: bytes) -> None:
        self.cluster.write_secret(self.name, {self.key: proxy})


def find_cluster(
    namespace: str | None,
    api_url: str | None = None,
    *,
    account: Path = ACCOUNT,
    environment: Mapping[str, str] = os.environ,
) -> Cluster:
    """The cluster that this process runs in, or the one behind `api_url`.

    Args:
        namespace: None for the pod's own.
        api_url: an API server that asks for no credentials, such as `kubectl proxy`.
        account: of the pod.
        environment: of this process.

    Raises:
        ConfigurationError: there is none, or its namespace is not known.
    """
    if api_url is not None:
        if namespace is None:
            message = "name the namespace as well (--namespace, or `kubernetes_namespace`)"
            raise ConfigurationError(message)
        return Cluster(api_url.rstrip("/"), namespace)
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (account / "token").exists():
        message = (
            "not in a pod with a service account; elsewhere start `kubectl proxy` and set "
            "SERVICEX_KUBERNETES_API=http://127.0.0.1:8001"
        )
        raise ConfigurationError(message)
    try:
        own = namespace or (account / "namespace").read_text().strip()
    except OSError as error:
        message = f"the pod's namespace is not known: {error.strerror}; set `kubernetes_namespace`"
        raise ConfigurationError(message) from error
    return Cluster(f"https://{f'[{host}]' if ':' in host else host}:{port}", own, account)


def _reason(answer: httpx.Response) -> str:
    """What the API server says, which names who may not do what."""
    try:
        said = str(answer.json()["message"])
    except (ValueError, LookupError, TypeError):
        return ""
    return f" {said[:300]}"
