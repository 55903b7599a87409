"""The next file is opened while one is read."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from faulty_proxy import faulty_proxy
from gated_files import GatedFiles
from servicex_server.errors import SourceRefused, SourceUnavailable
from servicex_server.source.http import HttpSource
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.replica import Replicas
from servicex_server.source.upcoming import in_turn

PATIENCE_S = 30.0
POLICY = SourcePolicy(allowed_private_hosts=("127.0.0.1",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    return tmp_path


def test_the_next_one_is_opened_meanwhile(folder: Path) -> None:
    with GatedFiles(folder, held="b") as files:
        turns = in_turn([f"{files.url}/a", f"{files.url}/b"], POLICY)
        assert next(turns) == f"{files.url}/a"
        files.wait_for_readers(1)
        files.open_gate()
        following = next(turns)
        assert isinstance(following, Replicas)
        source = following.open()
        assert source.read_ranges([(1, 3)]) == [b"bb"]
        assert [attempt.outcome for attempt in following.attempts] == ["read"]
        source.close()
        assert next(turns, None) is None


def test_what_is_wrong_with_one_is_told_when_it_is_its_turn(folder: Path) -> None:
    with GatedFiles(folder) as files:
        names = [f"{files.url}/a", f"{files.url}/none", "http://192.0.2.1:bad/x", f"{files.url}/c"]
        found = []
        for turn in in_turn(names, POLICY):
            replicas = turn if isinstance(turn, Replicas) else Replicas((turn,), POLICY)
            try:
                source = replicas.open()
            except (SourceRefused, SourceUnavailable) as error:
                found.append(error.message)
            else:
                found.append(source.location)
                source.close()
    assert found[0::3] == [names[0], names[3]]
    assert "404" in found[1]
    assert "192.0.2.1" in found[2]


class Opened:
    """A source that nobody reads."""

    location = identity = fingerprint = "there"
    size_bytes = bytes_read = 0

    def __init__(self, opened: list[Opened]) -> None:
        self.is_closed = threading.Event()
        opened.append(self)

    def read_ranges(self, wanted: object) -> list[bytes]:
        raise NotImplementedError

    def close(self) -> None:
        self.is_closed.set()


def test_one_that_nobody_reads_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Opened] = []
    is_open = threading.Event()

    def open_it(*_: object) -> Opened:
        is_open.set()
        return Opened(opened)

    monkeypatch.setattr("servicex_server.source.replica.open_source", open_it)
    turns = in_turn(["http://192.0.2.1/a", "http://192.0.2.1/b"], POLICY)
    next(turns)
    assert is_open.wait(PATIENCE_S)
    turns.close()
    (ahead,) = opened
    assert ahead.is_closed.wait(PATIENCE_S)


def test_one_whose_reader_fails_before_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Opened] = []
    monkeypatch.setattr("servicex_server.source.replica.open_source", lambda *_: Opened(opened))
    names = ["http://192.0.2.1/a", "http://192.0.2.1/b", str(Path(__file__))]
    for _turn in in_turn(names, POLICY):
        pass  # nothing of it is opened by its reader
    (ahead,) = opened
    assert ahead.is_closed.wait(PATIENCE_S)


def test_local_files_are_left_to_their_reader(folder: Path) -> None:
    names = [str(folder / "a"), f"file://{folder / 'b'}"]
    assert list(in_turn(names, POLICY)) == names


def test_files_of_a_host_share_connections(folder: Path) -> None:
    with GatedFiles(folder) as files, faulty_proxy(int(files.url.rpartition(":")[2])) as proxy:
        for name in ("a", "b", "c"):
            source = HttpSource(f"http://127.0.0.1:{proxy.port}/{name}", POLICY)
            assert source.read_ranges([(0, 2)]) == [name.encode() * 2]
            source.close()
        assert proxy.n_connections == 1
        source = HttpSource(f"http://127.0.0.1:{proxy.port}/a", SourcePolicy(allowed_private_hosts=("*",)))
        source.close()
        assert proxy.n_connections == 2, "what one policy lets through, another one may not"
