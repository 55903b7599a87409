"""How a server reads replicas, and where it looks for them. Pure."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from servicex_server.source.policy import ROOT_SCHEMES, SourcePolicy, scheme_of
from servicex_server.source.protocol import SourceLimits
from servicex_server.source.url import split_url


@dataclass(frozen=True, slots=True)
class HostMount:
    """A local folder in which workers find what lies below a prefix.

    Attributes:
        prefix: of URLs or paths; what follows it is a path below the folder.
        folder: where it is mounted on every worker.
    """

    prefix: str
    folder: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The rules for reading.

    Attributes:
        limits: of each source.
        xcache_prefixes: caches (`root://cache:1094//`) through which root:// replicas are read.
        host_mounts: folders to look into first.
        verify_checksums: read a file as a whole first, and compare its checksum, where the catalogue has one.
    """

    limits: SourceLimits = field(default_factory=SourceLimits)
    xcache_prefixes: tuple[str, ...] = ()
    host_mounts: tuple[HostMount, ...] = ()
    verify_checksums: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to look for a file.

    Attributes:
        location: path or URL; may hold a secret.
        policy: what may be read there.
        host: whose health it depends on; "" for this machine.
        origin: what somebody else reads for us, within the same bounds; "" for nothing.
    """

    location: str
    policy: SourcePolicy
    host: str = ""
    origin: str = ""


def places_of(locations: Sequence[str], policy: SourcePolicy, reading: Reading) -> list[Place]:
    """Where to look for a file with these replicas, in this order: mounted folders, caches, the replicas.

    What the operator named may be read though it lies in a private network or outside the local roots; but
    only the replica's own path below it.
    """
    found: list[Place] = []
    for location in locations:
        found += _mounted(location, policy, reading)
    for location in locations:
        found += _cached(location, policy, reading)
    found += [Place(location, policy, _host_of(location)) for location in locations]
    return list(dict.fromkeys(found))


def _mounted(location: str, policy: SourcePolicy, reading: Reading) -> list[Place]:
    found = []
    for mount in reading.host_mounts:
        path = location.removeprefix(mount.prefix)
        if path == location or not (mount.prefix.endswith("/") or path.startswith("/")):
            continue
        # What climbs out of the folder is refused when it is opened.
        inside = replace(policy, local_roots=(Path(mount.folder),), unrestricted_local=False)
        found.append(Place(posixpath.join(mount.folder, path.partition("?")[0].lstrip("/")), inside))
    return found


def _cached(location: str, policy: SourcePolicy, reading: Reading) -> list[Place]:
    if not reading.xcache_prefixes or scheme_of(location) not in ROOT_SCHEMES:
        return []
    prefix = choose_xcache(location, reading.xcache_prefixes)
    allowed = replace(policy, allowed_private_hosts=(*policy.allowed_private_hosts, split_url(prefix).host))
    return [Place(f"{prefix.rstrip('/')}//{location}", allowed, _host_of(prefix), origin=location)]


def choose_xcache(location: str, prefixes: Sequence[str]) -> str:
    """The cache for a file: the same one for all its replicas, and for most files when caches come and go."""
    path = split_url(location).rest.partition("?")[0]
    path = "/" + path.lstrip("/")
    return max(prefixes, key=lambda prefix: hashlib.sha256(f"{prefix} {path}".encode()).digest())


def _host_of(location: str) -> str:
    """Host and port, or "" for what is none of a network."""
    authority = location.partition("://")[2].partition("/")[0]
    return authority.rpartition("@")[2].lower()
