"""What a finder outside the server tells, whatever happens inside it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from http_thread import serving
from servicex_server.did.answer import answer
from servicex_server.errors import UnknownDataset
from servicex_server.model.did import Did, FoundFile, parse_did

DID = parse_did("test://x")


class Told(BaseHTTPRequestHandler):
    said: list[tuple[str, Any]]

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.said.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def said() -> list[tuple[str, Any]]:
    return []


@pytest.fixture
def url(said: list[tuple[str, Any]]) -> Iterator[str]:
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Told,), {"said": said}))) as url:
        yield url


class Scripted:
    """Finds one file, then fails as it is told."""

    def __init__(self, fault: Exception | None) -> None:
        self._fault = fault

    def check(self, did: Did) -> None: ...

    async def find(self, did: Did) -> AsyncIterator[Sequence[FoundFile]]:
        yield [FoundFile(("root://host//x.root",))]
        if self._fault is not None:
            raise self._fault


async def test_files_and_end_are_told(url: str, said: list[tuple[str, Any]]) -> None:
    await answer(Scripted(None), DID, url)
    assert [path for path, _ in said] == ["/files", "/complete"]
    assert said[0][1][0]["paths"] == ["root://host//x.root"]
    assert said[1][1]["files"] == 1


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (UnknownDataset("nobody knows x"), "does_not_exist", "nobody knows x"),
        (KeyError("secret"), "internal_failure", "the finder failed (KeyError); see its log"),
        (ValueError("secret"), "internal_failure", "the finder failed (ValueError); see its log"),
        (OSError("secret"), "internal_failure", "the finder failed (OSError); see its log"),
    ],
)
async def test_every_failure_is_told(
    url: str, said: list[tuple[str, Any]], fault: Exception, kind: str, words: str
) -> None:
    await answer(Scripted(fault), DID, url)
    assert [path for path, _ in said] == ["/files", "/error"]
    assert (said[1][1]["error-type"], said[1][1]["message"]) == (kind, words)
