"""What is asked of Rucio: the files of a name, and where they lie."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from servicex_server.did.rucio.login import RucioLogin
from servicex_server.did.rucio.reply import ATTEMPTS, Interrupted, check_reply, iter_lines, pause, request


@dataclass(frozen=True, slots=True)
class LogicalFile:
    """A file by its name in Rucio."""

    scope: str
    name: str
    size_bytes: int = 0
    adler32: str | None = None
    n_events: int = 0

    @property
    def text(self) -> str:
        return f"{self.scope}:{self.name}"


class RucioCatalogue:
    """Calls of one look-up, over connections of its own.

    Args:
        client: that trusts the server.
        pause_s: first pause before a call is repeated.
    """

    def __init__(self, client: httpx.AsyncClient, host: str, login: RucioLogin, *, pause_s: float) -> None:
        self._client = client
        self._host = host
        self._login = login
        self._pause_s = pause_s

    async def list_files(self, scope: str, name: str) -> AsyncGenerator[LogicalFile, None]:
        """The files of a file, data set or container, while Rucio tells them, each once.

        An answer that breaks off is asked for again, and what was told already left out; several times, if
        each time brings something new.

        Raises:
            UnknownDataset, BadDatasetName, FinderError: as Rucio says.
        """
        path = f"/dids/{quote(scope, safe='')}/{quote(name, safe='')}/files"
        told: set[int] = set()
        attempt = 0
        while True:
            known = len(told)
            try:
                async with self._call("GET", path) as answer, aclosing(iter_lines(answer)) as lines:
                    async for entry in lines:
                        file = _to_file(entry)
                        mark = hash(file.text)  # 64 bits of each name: 100,000 names take 8 MB
                        if mark not in told:
                            told.add(mark)
                            yield file
                return
            except Interrupted:
                attempt = 0 if len(told) > known else attempt + 1
                if attempt >= ATTEMPTS - 1:
                    raise
                await pause(attempt, self._pause_s)

    async def list_replicas(
        self, files: Sequence[LogicalFile], options: Mapping[str, object]
    ) -> dict[tuple[str, str], Mapping[str, Any]]:
        """By scope and name what Rucio says of the replicas of some files, `pfns` above all.

        Raises:
            FinderError: as Rucio says.
        """
        body = {**options, "dids": [{"scope": file.scope, "name": file.name} for file in files]}
        content = json.dumps(body).encode()
        for attempt in range(ATTEMPTS):
            try:
                async with self._call("POST", "/replicas/list", content) as answer:
                    return {
                        (str(entry.get("scope")), str(entry.get("name"))): entry
                        async for entry in iter_lines(answer)
                    }
            except Interrupted:
                if attempt + 1 == ATTEMPTS:
                    raise
                await pause(attempt, self._pause_s)
        raise AssertionError

    @asynccontextmanager
    async def _call(
        self, method: str, path: str, content: bytes | None = None
    ) -> AsyncIterator[httpx.Response]:
        """A good answer. A token that is refused, by a server that was started anew say, is replaced once."""
        url = f"{self._host}{path}"
        token = await self._login.token()
        for is_last in (False, True):
            headers = {"X-Rucio-Auth-Token": token, "Accept": "application/x-json-stream"}
            if content is not None:
                headers["Content-Type"] = "application/json"
            async with request(
                self._client, method, url, headers=headers, content=content, pause_s=self._pause_s
            ) as answer:
                if answer.status_code != httpx.codes.UNAUTHORIZED or is_last:
                    await check_reply(answer)
                    yield answer
                    return
            token = await self._login.token(refused=token)


def _to_file(entry: Mapping[str, Any]) -> LogicalFile:
    size, events, adler32 = entry.get("bytes"), entry.get("events"), entry.get("adler32")
    return LogicalFile(
        str(entry.get("scope")),
        str(entry.get("name")),
        size_bytes=_count(size),
        adler32=adler32[:32] if isinstance(adler32, str) and adler32 else None,
        n_events=_count(events),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
