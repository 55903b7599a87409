"""What the settings say, as the plain arguments of ports, workers and use cases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from servicex_server.app.datadir import DataDir
from servicex_server.app.settings import Settings
from servicex_server.errors import ConfigurationError
from servicex_server.grid.access import GridAccess, callers_access
from servicex_server.model.worker import ExecutorSpec
from servicex_server.run.sandbox.limits import SandboxLimits
from servicex_server.service.limits import Limits
from servicex_server.service.retention import Retention
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import SourceLimits
from servicex_server.source.reading import HostMount, Reading
from servicex_server.telemetry.machine import usable_cores

_DAY_S = 86400.0
_AUTHORITIES = Path("/etc/grid-security/certificates")
_TRY_AGAIN_S = 5.0
"""To open a file may take so much longer than to wait once for a connection and for an answer."""


def store_arguments(settings: Settings, data: DataDir) -> dict[str, object]:
    """Arguments of `store.open.open_store`, fit to be sent to another process. They may hold secrets."""
    if settings.store_url is None:
        return {"url": str(data.store), "min_free_bytes": settings.min_free_bytes}
    access, secret = settings.store_access_key, settings.store_secret_key
    return {
        "url": settings.store_url,
        "min_free_bytes": settings.min_free_bytes,
        "make_folder": not is_deployment(settings),
        "scratch": str(data.path / "scratch"),
        "endpoint": settings.store_endpoint,
        "region": settings.store_region,
        "ca_file": None if settings.store_ca_file is None else str(settings.store_ca_file),
        "access_key_id": None if access is None else access.get_secret_value(),
        "secret_access_key": None if secret is None else secret.get_secret_value(),
        "bulk_delete": settings.store_bulk_delete,
    }


def local_roots(settings: Settings) -> tuple[Path, ...]:
    """Folders that inputs may come from: in a deployment of several processes only those that are named."""
    if is_deployment(settings) and "local_roots" not in settings.model_fields_set:
        return ()
    return settings.local_roots


def is_deployment(settings: Settings) -> bool:
    """Whether apps and workers are processes of their own, and not the one tree of `servicex-server up`."""
    return settings.queue_url is not None


def naming_policy(settings: Settings, data: DataDir) -> SourcePolicy:
    """What requests may name as input: what may be read, and paths that workers find in mounted folders."""
    mounted = tuple(Path(prefix) for prefix in settings.host_mount if prefix.startswith("/"))
    policy = source_policy(settings, data)
    return replace(policy, local_roots=policy.local_roots + mounted)


def source_policy(settings: Settings, data: DataDir) -> SourcePolicy:
    """What may be read here. Mounted folders are opened for what lies below them, one by one."""
    return SourcePolicy(
        local_roots=local_roots(settings),
        forbidden_folders=(data.path,),
        allowed_private_hosts=settings.allowed_private_hosts,
        grid=grid_access(settings, data),
    )


def grid_access(settings: Settings, data: DataDir, environment: Mapping[str, str] = os.environ) -> GridAccess:
    """The service identity: what the settings name, else the data folder holds, else grid tools' variables.

    Never the default places of grid tools, such as /tmp/x509up_u1000: what lies there was not meant for this.
    """
    theirs = callers_access(environment)
    return GridAccess(
        proxy_file=settings.x509_proxy_file
        or (data.proxy if data.proxy.exists() else theirs.proxy_file)
        or data.proxy,
        cert_dir=settings.x509_cert_dir
        or theirs.cert_dir
        or (_AUTHORITIES if _AUTHORITIES.is_dir() else None),
        token_file=settings.bearer_token_file or theirs.token_file,
        hosts=settings.grid_hosts,
        private_folder=data.grid / "shown",
    )


def executor(settings: Settings, data: DataDir) -> ExecutorSpec:
    """What the children of a worker run."""
    policy = source_policy(settings, data)
    return ExecutorSpec(
        factory="servicex_server.app.executor:build",
        kwargs={
            "store": store_arguments(settings, data),
            "local_roots": [str(root) for root in policy.local_roots],
            "forbidden_folders": [str(folder) for folder in policy.forbidden_folders],
            "allowed_private_hosts": list(policy.allowed_private_hosts),
            "grid": {
                "proxy_file": _to_text(policy.grid.proxy_file),
                "cert_dir": _to_text(policy.grid.cert_dir),
                "token_file": _to_text(policy.grid.token_file),
                "hosts": list(policy.grid.hosts),
                "private_folder": _to_text(policy.grid.private_folder),
            },
            "reading": msgspec.to_builtins(to_reading(settings)),
            "n_threads": settings.worker_threads or max(1, usable_cores() // settings.workers),
            "sandbox": msgspec.to_builtins(sandbox_limits(settings)),
        },
    )


def _to_text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def to_reading(settings: Settings) -> Reading:
    """How workers read replicas."""
    limits = SourceLimits(
        connect_s=settings.read_connect_s,
        idle_s=settings.read_idle_s,
        open_s=settings.read_connect_s + settings.read_idle_s + _TRY_AGAIN_S,
        hedge_s=settings.hedged_open_s or None,
    )
    return Reading(
        limits=limits,
        xcache_prefixes=settings.xcache_prefixes,
        host_mounts=tuple(HostMount(prefix, folder) for prefix, folder in settings.host_mount.items()),
        verify_checksums=settings.verify_checksums,
    )


def sandbox_limits(settings: Settings) -> SandboxLimits | None:
    """What the code of a python query may use; None to run none."""
    if settings.python_generator == "off":
        return None
    return SandboxLimits(
        memory_bytes=settings.python_memory_bytes,
        time_s=settings.python_time_s,
        # So that its own words reach the user, not those for a worker that hangs.
        file_time_s=0.9 * settings.file_deadline_s,
        input_bytes=settings.python_input_bytes,
    )


def to_limits(settings: Settings) -> Limits:
    """Bounds of the use cases."""
    return Limits(
        preflight_files=settings.preflight_files,
        preflight_wait_s=settings.preflight_wait_s,
        file_deadline_s=settings.file_deadline_s,
        max_attempts=settings.max_attempts,
        request_deadline_s=settings.request_deadline_s,
        lookup_max_age_s=settings.lookup_max_age_s,
        lookup_silence_s=settings.lookup_silence_s,
        submit_free_bytes=2 * settings.min_free_bytes,
        retention=to_retention(settings),
        user_requests=settings.max_requests_per_user,
        user_files=settings.max_files_per_user,
    )


def to_retention(settings: Settings) -> Retention:
    """The rule by which results go."""
    return Retention(
        max_age_s=settings.results_max_age_days * _DAY_S or None,
        max_bytes=settings.results_max_bytes or None,
        max_share=settings.results_disk_share,
    )


def require_deployment(settings: Settings, *names: str) -> None:
    """Raises ConfigurationError, with all that is missing, unless these settings are given."""
    missing = [name for name in names if getattr(settings, name) is None]
    if missing:
        variables = ", ".join(f"SERVICEX_{name.upper()}" for name in missing)
        message = (
            f"a deployment of several processes needs {variables} (or `{missing[0]}: …` in a file for "
            "--config); `servicex-server up` needs none of it"
        )
        raise ConfigurationError(message)
