"""Pages for people: complete, escaped, and only for those who may see them."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from edge import BASE_URL, CORRUPT, REJECTION, SELECTION, Edge, open_edge
from servicex_server.service.limits import Limits

HTML = {"Accept": "text/html,application/xhtml+xml"}
ORIGIN = {"Origin": BASE_URL}
HOSTILE = "<script>alert(1)</script>\"'&"


class Tags(HTMLParser):
    """Elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def check_page(answer: httpx.Response, status: int = 200) -> str:
    """The text of a page that loads nothing from elsewhere and runs nothing but the server's own script."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "style-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    tags = Tags(answer.text).seen
    assert not {"iframe", "img", "style", "object"} & {tag for tag, _ in tags}
    assert answer.text.count("<script") == answer.text.count('<script src="/live.js" defer></script>')
    assert ("script-src" in policy) == ("script-src 'self'" in policy) == ("<script" in answer.text)
    for _, attributes in tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("href", "src", "action"):
            target = attributes.get(name)
            assert target is None or target.startswith(("/", "?")), target
    return answer.text


async def signed_in(edge: Edge, name: str = "ann") -> httpx.AsyncClient:
    """A browser in which the user called `name` has signed in."""
    http = edge.http(None, **HTML)
    answer = await http.post("/sign-in", data={"token": edge.tokens[name], "target": "/"}, headers=ORIGIN)
    assert answer.status_code == 303
    return http


async def test_start_page_is_open_and_shows_how_to_begin(edge: Edge) -> None:
    await edge.submit(title="secret plans")
    text = check_page(await edge.http(None, **HTML).get("/"))
    assert BASE_URL in text
    assert "uproot-raw" in text
    assert "secret plans" not in text
    assert "Sign in" in text


async def test_start_page_lists_own_requests_once_signed_in(edge: Edge) -> None:
    await edge.submit(title="of ann")
    await edge.submit(title="of bob", user="bob")
    text = check_page(await (await signed_in(edge)).get("/"))
    assert "of ann" in text
    assert "of bob" not in text
    assert "Signed in as ann" in text


async def test_link_of_the_client_leads_to_failed_files_with_reasons(edge: Edge) -> None:
    request_id = await edge.submit("a.root", "broken.root")
    await edge.finish(request_id)
    url = f"{BASE_URL}/transformation-request//{request_id}/results?status=failure"
    text = check_page(await (await signed_in(edge)).get(url))
    assert "broken.root" in text
    assert "the file [a, b] is &lt;b&gt;corrupt&lt;/b&gt;" in text
    assert "a.root<" not in text.replace("broken.root", "")


@pytest.mark.parametrize(
    ("names", "state"),
    [
        (("broken.root",), "Complete, the file failed"),
        (("broken.root", "broken2.root"), "Complete, all files failed"),
        (("a.root", "broken.root"), "Complete, 1 file failed"),
        (("a.root", "broken.root", "broken2.root"), "Complete, 2 files failed"),
        (("a.root",), "Complete"),
    ],
)
async def test_a_complete_request_tells_how_many_files_failed(
    edge: Edge, names: tuple[str, ...], state: str
) -> None:
    request_id = await edge.submit(*names)
    await edge.finish(request_id)
    text = check_page(await (await signed_in(edge)).get(f"/transformation-request/{request_id}"))
    assert f">{state}</td>" in text


@pytest.mark.parametrize(
    ("codegen", "selection", "is_known"),
    [("uproot-raw", SELECTION, True), ("python", "def run_query(file_path): pass", False)],
)
async def test_events_read_are_told_where_somebody_counts_them(
    codegen: str, selection: str, is_known: bool, edge: Edge
) -> None:
    request_id = await edge.submit(codegen=codegen, selection=selection)
    await edge.finish(request_id)
    http = await signed_in(edge)
    page = check_page(await http.get(f"/transformation-request/{request_id}"))
    files = check_page(await http.get(f"/transformation-request/{request_id}/results"))
    assert ("<td>100</td>" in page) == ("events/s of one worker" in page) == is_known
    assert ("not known" in page) == ("not known" in files) == (not is_known)


async def test_pages_tell_of_results_of_earlier_requests(edge: Edge) -> None:
    request_id = await edge.submit("a.root", "earlier.root")
    await edge.finish(request_id)
    http = await signed_in(edge)
    page = check_page(await http.get(f"/transformation-request/{request_id}"))
    assert "2 known, 2 done (1 by results of earlier requests), 0 failed" in page
    files = check_page(await http.get(f"/transformation-request/{request_id}/results"))
    assert files.count("success (earlier result)") == 1


async def test_log_link_as_the_client_rewrites_it_works(edge: Edge) -> None:
    request_id = await edge.submit("broken.root")
    status = await edge.finish(request_id)
    rewritten = status["log-url"].replace(
        "&_g=()",
        "&_g=(time:(from:now-30d%2Fd,to:now))&_a=(filters:!((query:(match_phrase:(requestId:'x')))))",
    )
    text = check_page(await (await signed_in(edge)).get(rewritten))
    assert "broken.root" in text


async def test_rejection_is_told_on_the_page_in_the_status_and_in_the_title(
    tmp_path: Path, blank_database: Path
) -> None:
    limits = Limits(preflight_files=1, preflight_wait_s=0)
    async with open_edge(tmp_path, blank_database, limits=limits) as edge:
        status = await edge.finish(await edge.submit("lacking.root"))
        assert status["status"] == "Fatal"
        shown = REJECTION.replace("[", "(").replace("]", ")")
        assert status["failure-info"] == shown
        assert status["title"].startswith("muons")
        assert shown in status["title"]
        text = check_page(await (await signed_in(edge)).get(status["log-url"]))
        assert shown in unescape(text)


async def test_rejection_known_at_once_is_the_answer_to_the_submit(
    tmp_path: Path, blank_database: Path
) -> None:
    async with open_edge(tmp_path, blank_database, limits=Limits(preflight_files=1)) as edge, edge.working():
        answer = await edge.http().post("/servicex/transformation", json=edge.submission("lacking.root"))
        assert answer.status_code == 400
        assert "nearest: (Muon_pt, Muon_eta)" in answer.json()["message"]


async def test_all_files_are_shown_without_a_filter(edge: Edge) -> None:
    request_id = await edge.submit("a.root", "broken.root")
    await edge.finish(request_id)
    text = check_page(await (await signed_in(edge)).get(f"/transformation-request/{request_id}/results"))
    assert "a.root.parquet" in text
    assert CORRUPT.split("<", maxsplit=1)[0] in text


async def test_files_show_their_cut_flow_and_times(edge: Edge) -> None:
    request_id = await edge.submit(
        "a.root", "broken.root", compression="zstd:3", **{"result-format": "arrow"}
    )
    await edge.finish(request_id)
    browser = await signed_in(edge)
    text = check_page(await browser.get(f"/transformation-request/{request_id}/results"))
    assert text.count("<details>") == 1, "a failed file has none"
    for shown in (
        "any(Muon_pt &gt; 20)",
        "<code>Events</code>",
        "genWeight",
        "99.5",
        "nan",
        "5.0 kB decompressed",
        "0.12 decompress",
    ):
        assert shown in text
    text = check_page(await browser.get(f"/transformation-request/{request_id}"))
    assert "<td>arrow</td>" in text
    assert "<td>zstd:3</td>" in text
    assert request_id in (await browser.get("/")).text, "pages list all formats"


async def test_files_come_a_hundred_per_page(edge: Edge) -> None:
    names = [f"f{number:03d}.root" for number in range(150)]
    request_id = await edge.submit(*names)
    await edge.finish(request_id)
    browser = await signed_in(edge)
    url = f"/transformation-request/{request_id}/results"
    shown: list[set[str]] = []
    for page in (1, 2, 3):
        text = check_page(await browser.get(url, params={"page": page, "status": "success"}))
        shown.append(set(re.findall(r"f\d{3}\.root(?=<)", text)))
    assert [len(files) for files in shown] == [100, 50, 0]
    assert shown[0] | shown[1] == set(names)


@pytest.mark.parametrize("query", ["page=0", "page=x", "page=-1", "page=99999999999999", "status=weird"])
async def test_wrong_query_is_a_400(edge: Edge, query: str) -> None:
    request_id = await edge.submit()
    answer = await (await signed_in(edge)).get(f"/transformation-request/{request_id}/results?{query}")
    check_page(answer, 400)


async def test_request_page_escapes_what_users_wrote(edge: Edge) -> None:
    selection = f'[{{"treename": "{"<b>t</b>"}", "expressions": ["x"]}}]'
    request_id = await edge.submit(title=HOSTILE, selection=selection)
    await edge.finish(request_id)
    browser = await signed_in(edge)
    for path in (
        f"/transformation-request/{request_id}",
        f"/transformation-request/{request_id}/results",
        "/",
    ):
        text = check_page(await browser.get(path))
        assert "<script>" not in text
        assert "&lt;script&gt;" in text
    assert "<b>t" not in (await browser.get(f"/transformation-request/{request_id}")).text


async def test_private_page_shows_the_form_to_strangers_and_leads_back(edge: Edge) -> None:
    request_id = await edge.submit()
    url = f"/transformation-request/{request_id}/results?status=failure"
    http = edge.http(None, **HTML)
    text = check_page(await http.get(url), 401)
    assert 'action="/sign-in"' in text
    assert f'value="{url}"' in text
    answer = await http.post("/sign-in", data={"token": edge.tokens["ann"], "target": url}, headers=ORIGIN)
    assert (answer.status_code, answer.headers["Location"]) == (303, url)
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert edge.tokens["ann"] not in cookie
    check_page(await http.get(url))


async def test_cookie_is_marked_secure_behind_https(tmp_path: Path, blank_database: Path) -> None:
    async with open_edge(tmp_path, blank_database, public_url="https://sx.example.org") as edge:
        http = edge.http(None, **HTML)
        answer = await http.post(
            "/sign-in", data={"token": edge.tokens["ann"]}, headers={"Origin": "https://sx.example.org"}
        )
        assert "Secure" in answer.headers["Set-Cookie"]


async def test_foreign_request_is_not_shown(edge: Edge) -> None:
    request_id = await edge.submit(user="bob")
    browser = await signed_in(edge, "ann")
    for suffix in ("", "/results"):
        text = check_page(await browser.get(f"/transformation-request/{request_id}{suffix}"), 403)
        assert "muons" not in text


async def test_pages_never_show_keys(edge: Edge) -> None:
    request_id = await edge.submit()
    status = await edge.finish(request_id)
    browser = await signed_in(edge)
    for path in (
        "/",
        f"/transformation-request/{request_id}",
        f"/transformation-request/{request_id}/results",
    ):
        text = (await browser.get(path)).text
        assert status["minio-secret-key"] not in text
        assert status["minio-access-key"] not in text


async def test_session_does_not_open_the_api(edge: Edge) -> None:
    browser = await signed_in(edge)
    answer = await browser.get("/servicex/transformation", headers={"Accept": "application/json"})
    assert answer.status_code == 401


async def test_wrong_token_shows_the_form_again(edge: Edge) -> None:
    http = edge.http(None, **HTML)
    for data in ({"token": "nobody", "target": "/x"}, {}, {"target": "//evil.example"}):
        text = check_page(await http.post("/sign-in", data=data, headers=ORIGIN), 401)
        assert "Nobody holds this token" in text
        assert "nobody" not in text
        assert "evil" not in text


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "", "/a\tb"],
)
async def test_sign_in_leads_nowhere_else(edge: Edge, target: str) -> None:
    answer = await edge.http(None, **HTML).post(
        "/sign-in", data={"token": edge.tokens["ann"], "target": target}, headers=ORIGIN
    )
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "evil" not in check_page(await edge.http(None, **HTML).get("/sign-in", params={"target": target}))


async def test_form_of_another_page_is_refused(edge: Edge) -> None:
    data = {"token": edge.tokens["ann"]}
    for headers in (
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        answer = await edge.http(None).post("/sign-in", data=data, headers=headers)
        assert answer.status_code == 403
        assert "Set-Cookie" not in answer.headers
    assert (await edge.http(None).post("/sign-out")).status_code == 403


async def test_odd_forms_are_refused(edge: Edge) -> None:
    http = edge.http(None)
    for content in (b"token=" + b"x" * 20_000, b"a=1&" * 100):
        answer = await http.post("/sign-in", content=content, headers=ORIGIN)
        assert answer.status_code == 400


async def test_sign_out_ends_the_session(edge: Edge) -> None:
    browser = await signed_in(edge)
    answer = await browser.post("/sign-out", headers=ORIGIN)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "Sign in" in (await browser.get("/")).text


async def test_token_in_the_header_opens_pages_for_curl(edge: Edge) -> None:
    request_id = await edge.submit()
    check_page(await edge.http("ann").get(f"/transformation-request/{request_id}"))


async def test_open_server_shows_pages_to_everybody(tmp_path: Path, blank_database: Path) -> None:
    async with open_edge(tmp_path, blank_database, auth_enabled=False) as edge:
        request_id = await edge.submit("broken.root")
        await edge.finish(request_id)
        http = edge.http(None, **HTML)
        assert "broken.root" in check_page(await http.get(f"/transformation-request/{request_id}/results"))
        text = check_page(await http.get("/"))
        assert "Sign" not in text
        assert "token" not in text


async def test_routes_page_lists_the_api_without_scripts(edge: Edge) -> None:
    text = check_page(await edge.http(None, **HTML).get("/docs"))
    assert "/servicex/transformation/{ref}/results" in text
    assert "/openapi.json" in text


async def test_errors_are_pages_for_browsers(edge: Edge) -> None:
    text = check_page(await edge.http(None, **HTML).get("/<b>nothing</b>"), 404)
    assert "<b>nothing" not in text


async def test_style_sheet_is_a_style_sheet(edge: Edge) -> None:
    answer = await edge.http(None).get("/style.css")
    assert answer.headers["Content-Type"].startswith("text/css")
    assert "url(" not in answer.text
    assert "@import" not in answer.text


async def test_page_of_a_running_request_hears_events_by_its_session_alone(edge: Edge) -> None:
    request_id = await edge.submit()
    http = await signed_in(edge)
    url = f"/transformation-request/{request_id}"
    page = check_page(await http.get(url))
    (events,) = re.findall(r'data-events="([^"]+)"', page)
    assert events.startswith(f"{url}/events?after=")
    assert "<script" in check_page(await http.get(f"{url}/results"))
    await edge.finish(request_id)
    heard = await http.get(events)
    assert heard.headers["Content-Type"].startswith("text/event-stream")
    assert "event: end" in heard.text
    assert (await http.get(f"/servicex/transformation/{request_id}/events")).status_code == 401
    assert (await edge.http(None).get(events)).status_code == 401
    assert (await (await signed_in(edge, "bob")).get(events)).status_code == 403


async def test_page_of_an_ended_request_runs_no_script(edge: Edge) -> None:
    request_id = await edge.submit()
    await edge.finish(request_id)
    http = await signed_in(edge)
    for path in (f"/transformation-request/{request_id}", f"/transformation-request/{request_id}/results"):
        assert "<script" not in check_page(await http.get(path))


async def test_the_script_comes_from_this_server(edge: Edge) -> None:
    answer = await edge.http(None).get("/live.js")
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert "EventSource" in answer.text
