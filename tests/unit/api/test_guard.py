"""Which Host and Origin headers are answered."""

from __future__ import annotations

import httpx
import pytest
from starlette.responses import PlainTextResponse

from servicex_server.api.guard import Guard, HostRule

APP = PlainTextResponse("inside")


def client(*names: str, public_host: str | None = None) -> httpx.AsyncClient:
    guard = Guard(APP, HostRule.from_names(names, public_host))
    return httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://127.0.0.1:5000")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:5000",
        "localhost:80",
        "LOCALHOST",
        "[::1]",
        "[::1]:5000",
        "sx.example.org:8443",
    ],
)
async def test_own_host_is_answered(host: str) -> None:
    async with client("sx.example.org") as http:
        assert (await http.get("/", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:5000",
        "127.0.0.1:5000/evil",
        "127.0.0.1:http",
        "evil@127.0.0.1",
        "[::2]:5000",
        "[::1",
        "",
        ":5000",
    ],
)
async def test_foreign_host_is_refused(host: str) -> None:
    async with client("sx.example.org") as http:
        answer = await http.get("/", headers={"Host": host})
    assert answer.status_code == 403
    assert "allowed" in answer.json()["message"]


@pytest.mark.parametrize("name", ["fd00::1", "FD00:0:0::1", "[fd00::1]"])
async def test_an_ipv6_address_to_listen_on_is_answered(name: str) -> None:
    async with client(name) as http:
        for host in ("[fd00::1]", "[fd00::1]:5000", "[FD00::1]:5000"):
            assert (await http.get("/", headers={"Host": host})).status_code == 200
        assert (await http.get("/", headers={"Host": "[fd00::2]:5000"})).status_code == 403


async def test_host_with_a_port_allows_that_port_only() -> None:
    async with client("sx.example.org:8443") as http:
        assert (await http.get("/", headers={"Host": "sx.example.org:8443"})).status_code == 200
        assert (await http.get("/", headers={"Host": "sx.example.org:9"})).status_code == 403


async def test_star_allows_every_host_but_not_every_origin() -> None:
    async with client("*") as http:
        assert (await http.get("/", headers={"Host": "any.example"})).status_code == 200
        foreign = {"Host": "any.example", "Origin": "http://other.example"}
        assert (await http.get("/", headers=foreign)).status_code == 403


async def test_two_hosts_are_refused() -> None:
    async with client() as http:
        answer = await http.get("/", headers=[("Host", "127.0.0.1"), ("Host", "evil.example")])
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:5000", 200),
        ("HTTP://127.0.0.1:5000", 200),
        ("http://127.0.0.1:5001", 403),
        ("http://127.0.0.1", 403),
        ("http://localhost:5000", 403),
        ("https://evil.example", 403),
        ("null", 403),
        ("", 403),
        ("file://", 403),
        ("ftp://127.0.0.1:5000", 403),
    ],
)
async def test_origin_must_be_this_server(origin: str, status: int) -> None:
    async with client() as http:
        assert (await http.get("/", headers={"Origin": origin})).status_code == status


async def test_default_port_may_be_left_out() -> None:
    async with client("sx.example.org") as http:
        headers = {"Host": "sx.example.org:443", "Origin": "https://sx.example.org"}
        assert (await http.get("/", headers=headers)).status_code == 200


async def test_public_url_is_an_own_origin_and_host() -> None:
    async with client(public_host="sx.example.org") as http:
        behind_proxy = {"Host": "127.0.0.1:5000", "Origin": "https://sx.example.org"}
        assert (await http.get("/", headers=behind_proxy)).status_code == 200
        assert (await http.get("/", headers={"Host": "sx.example.org"})).status_code == 200


@pytest.mark.parametrize(
    ("path", "site", "mode", "status"),
    [
        ("/servicex/transformation/1/cancel", "cross-site", "no-cors", 403),
        ("/servicex/transformation/1/cancel", "cross-site", "navigate", 403),
        ("//servicex/transformation/1/cancel", "same-site", "navigate", 403),
        ("/transformation-request/1/results", "cross-site", "navigate", 200),
        ("/transformation-request/1/results", "cross-site", "no-cors", 403),
        ("/servicex", "same-origin", "cors", 200),
        ("/servicex", "none", "navigate", 200),
    ],
)
async def test_other_pages_may_link_but_not_call(path: str, site: str, mode: str, status: int) -> None:
    async with client() as http:
        url = f"http://127.0.0.1:5000{path}"
        answer = await http.get(url, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode})
    assert answer.status_code == status
