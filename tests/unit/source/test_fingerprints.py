"""What names a file's content for good, and whose rights opened it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from servicex_server.source.access import domain_of
from servicex_server.source.local import LocalSource
from servicex_server.source.policy import CALLERS_OWN


def fingerprint(path: Path) -> str | None:
    source = LocalSource(str(path), CALLERS_OWN)
    source.close()
    return source.fingerprint


def settle(path: Path, changed_s: float = 1_700_000_000.0) -> None:
    os.utime(path, (changed_s, changed_s))


def test_a_local_file_is_named_by_its_place_size_time_and_inode(tmp_path: Path) -> None:
    path, twin = tmp_path / "a.root", tmp_path / "b.root"
    for file in (path, twin):
        file.write_bytes(b"12345678")
        settle(file)
    known = [fingerprint(path)]
    assert known[0] is not None
    assert fingerprint(path) == known[0]
    known.append(fingerprint(twin))
    settle(path, 1_700_000_000.5)
    known.append(fingerprint(path))
    path.write_bytes(b"123456789")
    settle(path)
    known.append(fingerprint(path))
    path.write_bytes(b"12345678")
    settle(path)
    assert fingerprint(path) == known[0], "the same size at the same time: nothing tells them apart"
    twin.replace(path)
    known.append(fingerprint(path))
    assert None not in known
    assert len(set(known)) == len(known)


def test_a_file_that_has_just_changed_has_no_name(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    path.write_bytes(b"x")
    settle(path, time.time())
    assert fingerprint(path) is None
    settle(path, time.time() + 3600)
    assert fingerprint(path) is None


@pytest.mark.parametrize(
    ("location", "domain"),
    [
        ("/data/x.root", "service"),
        ("x.root", "service"),
        ("file:///data/x.root", "service"),
        ("https://host/x.root", "public"),
        ("http://host:80/x.root", "public"),
        ("https://me:secret@host/x.root", "user:marie"),
        ("https://host/x.root?X-Amz-Signature=1", "user:marie"),
        ("https://host/x.root#1", "user:marie"),
        ("root://host//x.root", "public"),
        ("root://me@host//x.root", "user:marie"),
        ("root://host//x.root?authz=token", "user:marie"),
    ],
)
def test_what_a_user_brings_is_his_alone(location: str, domain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("X509_USER_PROXY", "X509_USER_CERT", "BEARER_TOKEN", "BEARER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert str(domain_of(location, "marie")) == domain


def test_a_proxy_of_the_deployment_is_nobody_else_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X509_USER_PROXY", "/tmp/x509up")
    assert str(domain_of("root://host//x.root", "marie")) == "service"
