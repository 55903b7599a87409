"""What every place for a proxy does: memory, a file, a Secret of Kubernetes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from grid_pki import TestAuthority
from kubernetes_api import FakeApi, running_kubernetes_api
from servicex_server.errors import CredentialError
from servicex_server.grid.kubernetes import SecretPlace
from servicex_server.grid.place import FilePlace, MemoryPlace
from servicex_server.grid.protocol import ProxyPlace


@dataclass
class Case:
    """A place, and how to make it fail."""

    place: ProxyPlace
    breaks: Callable[[], None] = lambda: None
    heals: Callable[[], None] = lambda: None


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeApi]:
    folder = tmp_path_factory.mktemp("api")
    authority = TestAuthority(folder / "ca")
    host = authority.issue("localhost", hosts=("localhost",))
    with running_kubernetes_api(authority, host, folder / "account") as running:
        yield running


@pytest.fixture(params=["memory", "file", "secret"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    if request.param == "memory":
        return Case(MemoryPlace())
    if request.param == "file":
        return _file_case(tmp_path)
    api: FakeApi = request.getfixturevalue("api")
    api.secrets.clear()
    place = SecretPlace(api.cluster(), "x509-proxy")

    def set_fault(status: int) -> None:
        api.fault = status

    return Case(place, lambda: set_fault(503), lambda: set_fault(0))


def _file_case(folder: Path) -> Case:
    place = FilePlace(folder / "grid" / "x509up")
    hidden = folder / "hidden"

    def breaks() -> None:
        # Not by rights, which do not bind root: what was the folder is a file now.
        place.path.parent.rename(hidden)
        place.path.parent.write_text("")

    def heals() -> None:
        place.path.parent.unlink()
        hidden.rename(place.path.parent)

    return Case(place, breaks, heals)


def test_nothing_is_there_at_first(case: Case) -> None:
    assert case.place.read() is None


def test_what_is_written_is_read_until_the_next_one(case: Case) -> None:
    for content in (b"one\n", b"\x00\xff" * 1000, b"three"):
        case.place.write(content)
        assert case.place.read() == content


@pytest.mark.parametrize("case", ["file", "secret"], indirect=True)
def test_a_write_that_fails_leaves_what_was_there(case: Case) -> None:
    case.place.write(b"old")
    case.breaks()
    with pytest.raises(CredentialError):
        case.place.write(b"new")
    case.heals()
    assert case.place.read() == b"old"


def test_readers_see_all_of_one_proxy(case: Case) -> None:
    contents = [bytes([65 + number]) * 20_000 for number in range(4)]
    case.place.write(contents[0])
    seen: list[bytes | None] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(case.place.read())

    reader = threading.Thread(target=look)
    reader.start()
    for content in contents * 3:
        case.place.write(content)
    done.set()
    reader.join()
    assert set(seen) <= set(contents)


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    place = FilePlace(tmp_path / "made" / "x509up")
    place.write(b"secret")
    assert place.path.stat().st_mode & 0o777 == 0o600
    assert place.path.parent.stat().st_mode & 0o777 == 0o700
    place.path.chmod(0o644)
    place.write(b"next")
    assert place.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in place.path.parent.iterdir()] == ["x509up"], "no scratch file is left"


def test_other_keys_of_a_secret_stay(api: FakeApi) -> None:
    api.secrets.clear()
    cluster = api.cluster()
    cluster.write_secret("x509-proxy", {"other": b"kept", "gone": b"1"})
    SecretPlace(cluster, "x509-proxy").write(b"proxy")
    cluster.write_secret("x509-proxy", {"gone": None})
    assert api.values("x509-proxy") == {"other": b"kept", "x509up": b"proxy"}
    assert not any(verb == "DELETE" for verb, _ in api.asked), "a Secret is never away while it is replaced"
    assert cluster.delete_secret("x509-proxy")
    assert not cluster.delete_secret("x509-proxy")


def test_what_the_api_server_refuses_is_told(api: FakeApi) -> None:
    place = SecretPlace(api.cluster("kube-system"), "x509-proxy")
    with pytest.raises(CredentialError, match="403 secrets is forbidden: User cannot do this") as caught:
        place.write(b"secret")
    assert "c2VjcmV0" not in str(caught.value)
    cluster = api.cluster()
    api.token = "rotated"
    try:
        with pytest.raises(CredentialError, match="401 Unauthorized"):
            cluster.read_secret("x509-proxy")
        api.cluster()  # the kubelet puts the new token into the same file
        assert cluster.read_secret("x509-proxy") is None
    finally:
        api.token = "account-token"
