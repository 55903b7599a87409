"""One shape for every error, on every route."""

from __future__ import annotations

import httpx
import pytest

from edge import Edge

UNKNOWN = "9f1b2c3d-0000-4000-8000-0123456789ab"
ROUTES = (
    ("GET", "/servicex"),
    ("POST", "/servicex/transformation"),
    ("GET", "/servicex/transformation"),
    ("GET", f"/servicex/transformation/{UNKNOWN}"),
    ("DELETE", f"/servicex/transformation/{UNKNOWN}"),
    ("GET", f"/servicex/transformation/{UNKNOWN}/cancel"),
    ("GET", f"/servicex/transformation/{UNKNOWN}/results"),
    ("GET", f"/servicex/transformation/{UNKNOWN}/status"),
    ("GET", f"/servicex/transformation/{UNKNOWN}/errors"),
    ("GET", f"/servicex/transformation/{UNKNOWN}/deployment-status"),
    ("GET", "/servicex/datasets"),
    ("GET", "/servicex/datasets/99"),
    ("DELETE", "/servicex/datasets/99"),
)
PAGES = (
    ("GET", f"/transformation-request/{UNKNOWN}"),
    ("GET", f"/transformation-request/{UNKNOWN}/results"),
)
EXPIRED = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjEsIm5iZiI6MCwic3ViIjoiYW5uIiwidHlwZSI6ImFjY2VzcyJ9."
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)


def check(answer: httpx.Response, status: int) -> str:
    """The message of an error that has the one shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"message"}
    message: str = body["message"]
    assert isinstance(message, str)
    assert message
    return message


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer nobody", "Basic YW5uOmFubg==", "Bearer", f"Bearer {EXPIRED}", "\xff"]
)
async def test_wrong_credentials_are_a_401(edge: Edge, authorization: str | None) -> None:
    headers = {} if authorization is None else {b"Authorization": authorization.encode("latin-1")}
    for method, path in (*ROUTES, *PAGES, ("POST", "/token/refresh")):
        answer = await edge.http(None).request(method, path, headers=headers)
        check(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_unknown_object_is_a_404(edge: Edge) -> None:
    for method, path in (*ROUTES, *PAGES):
        if "/9" in path:
            check(await edge.http().request(method, path), 404)


async def test_odd_references_are_404s(edge: Edge) -> None:
    for ref in ("0", "99999999999999999999999", "nonsense", "%00", "a%2Fb", "..%2f..", "ü", "%ff"):
        check(await edge.http().get(f"/servicex/transformation/{ref}"), 404)
        check(await edge.http().delete(f"/servicex/transformation/{ref}"), 404)


async def test_unknown_route_is_a_404(edge: Edge) -> None:
    for path in ("/nothing", "/servicex/nothing", "/favicon.ico", "/servicex/internal/x", "/redoc"):
        assert path in check(await edge.http().get(path), 404)


async def test_wrong_method_is_a_405(edge: Edge) -> None:
    for method, path in (
        ("PUT", "/servicex"),
        ("POST", "/servicex"),
        ("DELETE", "/servicex/transformation"),
        ("GET", "/token/refresh"),
        ("OPTIONS", "/servicex"),
        ("PATCH", "/servicex/datasets/1"),
        ("POST", "/"),
        ("TRACE", "/healthz"),
    ):
        answer = await edge.http().request(method, path)
        check(answer, 405)
        assert answer.headers["Allow"]


async def test_messages_hold_no_markup_of_the_client(edge: Edge) -> None:
    message = check(await edge.http().get("/servicex/transformation/[red]x[bold]"), 404)
    assert "[red]" not in message
    message = check(await edge.http().get("/[link=http://x]"), 404)
    assert "[link" not in message


async def test_messages_are_bounded(edge: Edge) -> None:
    assert len(check(await edge.http().get("/" + "x" * 20_000), 404)) <= 4000


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_foreign_pages_and_names_are_a_403_everywhere(edge: Edge, headers: dict[str, str]) -> None:
    for path in ("/servicex", "/healthz", "/", "/openapi.json", f"/{UNKNOWN}/key"):
        check(await edge.http().get(path, headers=headers), 403)


async def test_no_answer_allows_other_origins(edge: Edge) -> None:
    answer = await edge.http().get("/servicex", headers={"Origin": "http://127.0.0.1:5000"})
    assert answer.status_code == 200
    assert not any(name.lower().startswith("access-control") for name in answer.headers)
