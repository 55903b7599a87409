"""What every finder does, whatever it asks: one suite over all of them, and what is special about each."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from opendata_portal import EOS, listed, record, running_portal
from rucio_api import PASSWORD, FakeRucio, running_rucio_api
from scripted_finder import ScriptedFinder, files
from service_bench import open_bench, prepare
from servicex_server.db.session import Database
from servicex_server.did.finders.cernopendata import CernOpenDataFinder
from servicex_server.did.finders.earlier import EarlierFinder
from servicex_server.did.finders.local import LocalFinder
from servicex_server.did.finders.rucio import RucioFinder
from servicex_server.did.finders.static import StaticFinder
from servicex_server.did.finders.web import WebFinder
from servicex_server.did.finders.xrootd import XrootdFinder
from servicex_server.did.limit import iter_found
from servicex_server.did.protocol import Finder
from servicex_server.did.rucio.login import LoginKind, RucioAccess
from servicex_server.errors import BadDatasetName, FinderError, SourceRefused, UnknownDataset
from servicex_server.model.did import Did, FoundFile, parse_did
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.request import ANYONE
from servicex_server.service.submit import submit
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import SourceLimits
from web_listing import (
    Answer,
    apache_index,
    nginx_index,
    redirect,
    running_web,
    text_list,
    xrootd_index,
)
from xrootd_server import XrootdServer, free_port, require_xrootd, running_redirector, running_xrootd

NAMES = ("a", "b", "c", "d")


@dataclass(frozen=True, slots=True)
class Case:
    """A finder, and what it knows.

    Attributes:
        known: a data set of four files, a to d.
        unknown: one that does not exist; None if there is none such.
        bad: a name that no data set has; None if every name will do.
    """

    finder: Finder
    known: str
    unknown: str | None = None
    bad: str | None = None


def make_files(folder: Path) -> None:
    for name in NAMES:
        (folder / f"{name}.root").write_bytes(b"x" * 10)
    (folder / "notes.txt").write_text("none of them")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def scripted(_folder: Path, _stack: ExitStack) -> Case:
    finder = ScriptedFinder({"x": [files("c", "a"), [], files("b", "d")], "y": [UnknownDataset("no y")]})
    return Case(finder, "toy://x", "toy://y", "toy://bad")


def static(_folder: Path, _stack: ExitStack) -> Case:
    return Case(StaticFinder([f"root://h//{name}.root" for name in NAMES]), "static://whatever")


def local(folder: Path, _stack: ExitStack) -> Case:
    make_files(folder)
    finder = LocalFinder(SourcePolicy(local_roots=(folder,)))
    return Case(finder, f"local://{folder}/*.root", f"local://{folder}/*.nothing")


def earlier(folder: Path, stack: ExitStack) -> Case:
    url, request_id = asyncio.run(deliver(folder))
    db = Database(url)
    stack.callback(lambda: asyncio.run(db.close()))
    unknown = "servicex://00000000-0000-4000-8000-000000000000"
    return Case(EarlierFinder(db), f"servicex://{request_id}", unknown, "servicex://1")


async def deliver(folder: Path) -> tuple[str, str]:
    """The URL of a database, and the id of a request in it with a result of each name."""
    url, store, root = await prepare(folder)
    async with open_bench(url, store, root) as bench, bench.working():
        inputs = tuple(f"{name}.root" for name in NAMES)
        submission = bench.submission(files=inputs, result_format=ResultFormat.ROOT_FILE)
        request_id = await submit(bench.services, ANYONE, submission)
        await bench.until_ended(request_id)
    return url, request_id


def opendata(_folder: Path, stack: ExitStack) -> Case:
    pages = {"/api/records/1507": record(1507, [listed(f"{EOS}/{name}.root") for name in NAMES])}
    finder = CernOpenDataFinder(stack.enter_context(running_portal(pages)))
    return Case(finder, "cernopendata://1507", "cernopendata://1508", "cernopendata://muons")


def xrootd(folder: Path, stack: ExitStack) -> Case:
    require_xrootd()
    make_files(folder)
    server = stack.enter_context(running_xrootd({path.name: path for path in folder.iterdir()}))
    finder = XrootdFinder(SourcePolicy(allowed_private_hosts=("localhost",)))
    return Case(
        finder, f"xrootd://{server.url('*.root')}", f"xrootd://{server.url('*.nothing')}", "xrootd://x"
    )


def rucio(_folder: Path, stack: ExitStack) -> Case:
    server = stack.enter_context(running_rucio_api(FakeRucio({"s:x": [f"{name}.root" for name in NAMES]})))
    finder = RucioFinder(RucioAccess(server.url, server.url, LoginKind.USERPASS, "root", "jane", PASSWORD))
    return Case(finder, "rucio://s:x", "rucio://s:y", "rucio://x")


def web(_folder: Path, stack: ExitStack) -> Case:
    index = apache_index("/data", [f"{name}.root" for name in NAMES])
    url = stack.enter_context(running_web({"/data/": index}))
    return Case(web_finder(), f"{url}/data/*.root", f"{url}/data/*.nothing", "https://host/*/x.root")


def web_list(_folder: Path, stack: ExitStack) -> Case:
    lines = text_list("# of 2024", *(f"{name}.root" for name in NAMES))
    url = stack.enter_context(running_web({"/data/files.txt": lines}))
    return Case(web_finder(), f"{url}/data/files.txt", f"{url}/data/other.txt", "https://host")


CASES = [scripted, static, local, earlier, opendata, rucio, web, web_list, xrootd]


@pytest.fixture(params=CASES, ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path, stack: ExitStack) -> Case:
    make: Callable[[Path, ExitStack], Case] = request.param
    return make(tmp_path, stack)


async def find(finder: Finder, text: str, most_files: int = 1_000) -> list[FoundFile]:
    found: list[FoundFile] = []
    async for batch in iter_found(finder, parse_did(text), most_files=most_files):
        found += batch
    return found


async def test_a_finder_with_a_limit_shows_that_it_is_at_work(tmp_path: Path, stack: ExitStack) -> None:
    case = scripted(tmp_path, stack)
    batches = [
        batch
        async for batch in iter_found(
            case.finder, parse_did(f"{case.known}?files=2"), most_files=9, alive_every_s=0
        )
    ]
    assert batches[0] == (), "before all is found"
    assert len(batches[-1]) == 2
    assert not any(batches[:-1])


def names_of(found: list[FoundFile]) -> list[str]:
    return [Path(file.paths[0]).stem for file in found]


async def test_all_files_are_found(case: Case) -> None:
    case.finder.check(parse_did(case.known))
    found = await find(case.finder, case.known)
    assert sorted(names_of(found)) == list(NAMES)
    assert len({file.digest for file in found}) == 4


async def test_a_limit_takes_the_first_by_name(case: Case) -> None:
    for _ in range(2):
        assert names_of(await find(case.finder, f"{case.known}?files=2")) == ["a", "b"]
    assert len(await find(case.finder, f"{case.known}?files=99")) == 4


async def test_the_number_of_files_is_bounded(case: Case) -> None:
    for text in (case.known, f"{case.known}?files=1"):
        with pytest.raises(FinderError, match="more than the 3 files"):
            await find(case.finder, text, most_files=3)


async def test_what_does_not_exist_is_told(case: Case) -> None:
    if case.unknown is not None:
        with pytest.raises(UnknownDataset):
            await find(case.finder, case.unknown)


async def test_a_bad_name_is_told_before_anybody_is_asked(case: Case) -> None:
    if case.bad is not None:
        with pytest.raises(BadDatasetName):
            case.finder.check(parse_did(case.bad))


async def test_a_misspelt_parameter_is_told_before_anybody_is_asked(case: Case) -> None:
    if isinstance(case.finder, WebFinder | ScriptedFinder):
        return  # a web server may have parameters of its own
    with pytest.raises(
        BadDatasetName, match=r"parameter 'file'.*allowed: files, get, lookup; did you mean files"
    ):
        case.finder.check(parse_did(f"{case.known}?file=2"))
    for text in ("files=2", "get=available", "lookup=refresh&files=1"):
        case.finder.check(parse_did(f"{case.known}?{text}"))


# Web pages


def web_finder(limits: SourceLimits | None = None) -> WebFinder:
    return WebFinder(SourcePolicy(allowed_private_hosts=("127.0.0.1",)), limits)


async def found_on(pages: dict[str, Answer], name: str) -> list[str]:
    """Paths that are found, as lines without the address of the server."""
    with running_web(pages) as url:
        return sorted(file.paths[0].replace(url, "") for file in await find(web_finder(), f"{url}{name}"))


@pytest.mark.parametrize("write_index", [apache_index, nginx_index, xrootd_index])
async def test_indices_of_web_servers(write_index: Callable[[str, list[str]], Answer]) -> None:
    names = ["run1.root", "run%202.root", "run1.root", "notes.txt", "deep/", "README"]
    pages = {"/data/": write_index("/data/", names), "/data": redirect("/data/")}
    both = ["/data/run%202.root", "/data/run1.root"]
    assert await found_on(pages, "/data/") == both
    assert await found_on(pages, "/data") == both, "the server adds the slash"
    assert await found_on(pages, "/data/run*.root") == both
    assert await found_on(pages, "/data/run[12].root") == ["/data/run1.root"]
    assert await found_on(pages, "/data/run ?.root") == ["/data/run%202.root"], "as it is called, decoded"
    assert await found_on(pages, "/data/*.txt") == ["/data/notes.txt"]


async def test_links_to_elsewhere_bring_nothing_in() -> None:
    names = [
        "a.root",
        "/other/b.root",
        "../c.root",
        "%2e%2e/d.root",
        "https://elsewhere.example/data/e.root",
        "//elsewhere.example/data/f.root",
        "file:///data/g.root",
        "javascript:h.root",
        "i.root?sort=1",
        "http://[broken/j.root",
        "k.root#top",
        "deep/l.root",
    ]
    pages = {"/data/": apache_index("/data", names)}
    assert await found_on(pages, "/data/") == ["/data/a.root", "/data/deep/l.root", "/data/k.root"]
    assert await found_on(pages, "/data/*.root") == ["/data/a.root", "/data/k.root"]


async def test_lists_of_files() -> None:
    lines = text_list(
        "# a comment",
        "",
        "root://host.example//x/a.root",
        "b.root",
        "/c.root  ",
        "https://host.example/d.root",
    )
    pages = {"/lists/good.txt": lines, "/lists/x?y=1": replace(lines, media_type="")}
    wanted = ["/c.root", "/lists/b.root", "https://host.example/d.root", "root://host.example//x/a.root"]
    assert await found_on(pages, "/lists/good.txt") == wanted
    assert await found_on(pages, "/lists/x?y=1&files=9") == wanted, (
        "the query is for the server, but for ours"
    )
    for line, reason in (
        ("file:///etc/passwd", "line 2 of the list is no http"),
        ("http://127.0.0.2/x.root", "line 2 of the list: the host '127.0.0.2'"),
    ):
        with pytest.raises(FinderError, match=reason):
            await found_on({"/l.txt": text_list("a.root", line)}, "/l.txt")


async def test_a_root_file_is_a_data_set_of_one() -> None:
    content = b"root\0\0\xf4\x88" + bytes(100_000)
    pages = {"/x.root": Answer(content, "application/octet-stream"), "/old.root": redirect("/x.root")}
    assert await found_on(pages, "/x.root") == ["/x.root"]
    assert await found_on(pages, "/old.root") == ["/old.root"], "a redirect may be good for a while only"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(status=404), UnknownDataset),
        (Answer(status=410), UnknownDataset),
        (Answer(b"<html><a href='x.txt'>x</a></html>"), UnknownDataset),
        (text_list("# nothing"), UnknownDataset),
        (Answer(b'{"files": []}', "application/json"), BadDatasetName),
        (Answer(b"PK\x03\x04\xff", "application/octet-stream"), BadDatasetName),
        (Answer(b"a\x07.root", "text/plain"), BadDatasetName),
        (Answer(status=403), FinderError),
        (Answer(status=500), FinderError),
        (redirect("http://127.0.0.2/"), FinderError),
        (redirect("file:///etc/"), FinderError),
        (redirect("/data/"), FinderError),
        (Answer(b"x", headers={"Content-Encoding": "gzip"}), FinderError),
    ],
)
async def test_what_a_page_may_be_instead_is_told(answer: Answer, kind: type[FinderError]) -> None:
    finder = web_finder(SourceLimits(n_attempts=2, backoff_s=0.01))
    with running_web({"/data/": answer}) as url, pytest.raises(FinderError) as caught:
        await find(finder, f"{url}/data/")
    assert type(caught.value) is kind


async def test_a_pattern_needs_an_index() -> None:
    with pytest.raises(BadDatasetName, match="no index in HTML"):
        await found_on({"/data/": text_list("a.root")}, "/data/*.root")


async def test_a_page_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servicex_server.did.finders.web._MAX_BYTES", 1_000)
    with pytest.raises(FinderError, match="larger than 1,000 bytes"):
        await found_on({"/": Answer(b"x" * 2_000)}, "/")


async def test_a_web_server_that_is_away_is_told() -> None:
    with pytest.raises(FinderError, match=r"cannot read http://127\.0\.0\.1:1/x/"):
        await find(web_finder(SourceLimits(connect_s=1.0, n_attempts=1)), "http://127.0.0.1:1/x/*.root")


@pytest.mark.parametrize("name", ["host", "host/*/x.root", "h*st/x.root#y", "user@host/*.root"])
def test_what_is_no_data_set_on_the_web(name: str) -> None:
    with pytest.raises(BadDatasetName):
        WebFinder(SourcePolicy()).check(Did("https", name))


@pytest.mark.parametrize(
    "name", ["127.0.0.1/*.root", "localhost/x/", "[::1]/x/", "169.254.169.254/", "a\\@b/"]
)
def test_hosts_on_the_web_that_are_refused(name: str) -> None:
    with pytest.raises(SourceRefused):
        WebFinder(SourcePolicy()).check(Did("https", name))


# Local folders


def local_finder(*roots: Path) -> LocalFinder:
    return LocalFinder(SourcePolicy(local_roots=roots))


async def test_local_patterns(tmp_path: Path) -> None:
    for folder in ("run1", "run2", "run2/deep"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.root").write_bytes(b"12345")
    (tmp_path / "run1" / "folder.root").mkdir()
    finder = local_finder(tmp_path)

    async def relative(pattern: str) -> list[str]:
        found = await find(finder, f"local://{pattern}")
        return sorted(str(Path(file.paths[0]).relative_to(tmp_path)) for file in found)

    assert await relative(f"{tmp_path}/run*/x.root") == ["run1/x.root", "run2/x.root"]
    assert await relative("run*/*.root") == ["run1/x.root", "run2/x.root"], "relative to the root"
    assert await relative("**/*.root") == ["run1/x.root", "run2/deep/x.root", "run2/x.root"]
    assert await relative("run1") == ["run1/x.root"], "a folder is its ROOT files"
    assert await relative("run1/x.root") == ["run1/x.root"]
    assert await relative("run[2]/?.root") == ["run2/x.root"]
    assert [file.size_bytes for file in await find(finder, "local://run1")] == [5]


async def test_nothing_outside_the_roots_is_found(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "x.root").write_bytes(b"")
    (inside / "link.root").symlink_to(outside / "x.root")
    (inside / "away").symlink_to(outside)
    finder = local_finder(inside)
    for text in (f"{outside}/*.root", f"{inside}/../outside/*.root", f"{inside}/away/*.root", "/etc/*"):
        with pytest.raises(SourceRefused):
            finder.check(parse_did(f"local://{text}"))
    for text in (f"{inside}/*.root", f"{inside}/*/../../outside/*.root", f"{inside}/*/*.root"):
        try:
            found = await find(finder, f"local://{text}")
        except UnknownDataset:
            continue
        assert [file.paths for file in found] == [(str(inside / "x.root"),)]


# XRootD


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[XrootdServer]:
    require_xrootd()
    folder = tmp_path_factory.mktemp("xrootd")
    make_files(folder)
    with running_xrootd({path.name: path for path in folder.iterdir()}) as server:
        for run in ("run1", "run2", "other"):
            (server.folder / run).mkdir()
            (server.folder / run / "y.root").write_bytes(b"123")
        yield server


async def test_xrootd_patterns(server: XrootdServer) -> None:
    finder = XrootdFinder(SourcePolicy(allowed_private_hosts=("localhost",)))
    found = await find(finder, f"xrootd://{server.url('run*/*.root')}")
    assert sorted(file.paths[0] for file in found) == [server.url(f"run{n}/y.root") for n in (1, 2)]
    assert {file.size_bytes for file in found} == {3}
    one = await find(finder, f"xrootd://{server.url('a.root')}")
    assert [file.paths for file in one] == [(server.url("a.root"),)]
    assert len(await find(finder, f"xrootd://{server.url('*/y.root')}?files=2")) == 2
    for name in ("nowhere.root", "nowhere/*.root", "run1"):
        with pytest.raises(UnknownDataset):
            await find(finder, f"xrootd://{server.url(name)}")


async def test_xrootd_servers_send_on_to_hosts_that_may_be_read_alone(server: XrootdServer) -> None:
    allowed = XrootdFinder(SourcePolicy(allowed_private_hosts=("localhost", "127.0.0.1")))
    door_alone = XrootdFinder(SourcePolicy(allowed_private_hosts=("localhost",)))
    with running_redirector(f"127.0.0.1:{server.port}") as door:
        for name, n_found in (("run*/*.root", 2), ("a.root", 1)):
            did = f"xrootd://{door.url(name)}"
            found = await find(allowed, did)
            assert len(found) == n_found
            assert all(file.paths[0].startswith(f"root://localhost:{door.port}//store/") for file in found)
            with pytest.raises(FinderError, match=r"redirected: .*127\.0\.0\.1"):
                await find(door_alone, did)
    with running_redirector(f"localhost:{server.port}") as door:
        assert len(await find(door_alone, f"xrootd://{door.url('a.root')}")) == 1


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="True is not counted there")
async def test_listing_with_xrootd_does_not_use_up_what_is_true(server: XrootdServer) -> None:
    # Its client does not count what it returns: the server would end after some hundreds of listings.
    finder = XrootdFinder(SourcePolicy(allowed_private_hosts=("localhost",)))
    before = sys.getrefcount(True)
    for _ in range(50):
        await find(finder, f"xrootd://{server.url('a.root')}")
    assert sys.getrefcount(True) > before - 25


async def test_xrootd_servers_that_send_in_circles_are_told() -> None:
    require_xrootd()
    port = free_port()
    finder = XrootdFinder(SourcePolicy(allowed_private_hosts=("localhost",)))
    with (
        running_redirector(f"localhost:{port}", port=port) as door,
        pytest.raises(FinderError, match="more than 5 redirects"),
    ):
        await find(finder, f"xrootd://{door.url('*.root')}")


async def test_a_server_that_is_away_is_told() -> None:
    limits = SourceLimits(connect_s=1.0, idle_s=1.0, n_attempts=2)
    finder = XrootdFinder(SourcePolicy(allowed_private_hosts=("localhost",)), limits)
    with pytest.raises(FinderError, match="cannot list root://localhost:1"):
        await find(finder, "xrootd://root://localhost:1//store/*.root")


@pytest.mark.parametrize("name", ["http://h//x", "root://", "root://h", "root://h/", "x.root"])
def test_what_is_no_xrootd_pattern(name: str) -> None:
    with pytest.raises(BadDatasetName):
        XrootdFinder(SourcePolicy()).check(Did("xrootd", name))


def test_private_hosts_are_refused() -> None:
    with pytest.raises(SourceRefused):
        XrootdFinder(SourcePolicy()).check(parse_did("xrootd://root://127.0.0.1//x/*.root"))


# CERN Open Data


@asynccontextmanager
async def portal(**pages: object) -> AsyncIterator[Finder]:
    with running_portal({f"/{path}": page for path, page in pages.items()}) as url:
        yield CernOpenDataFinder(url)


async def test_indices_are_read() -> None:
    index = f"{EOS}/CMS_Run2012B_file_index"
    entries = [listed(f"{EOS}/{name}.root", 10, "adler32:00c0ffee") for name in ("a", "b")]
    pages = {
        "api/records/1": record(
            1, [listed(f"{index}.txt"), listed(f"{index}.json"), listed(f"{EOS}/c.root")]
        ),
        "eos/opendata/cms/Run2012B/CMS_Run2012B_file_index.json": entries,
        "api/records/2": record(2, [listed(f"{index}.txt")]),
        "eos/opendata/cms/Run2012B/CMS_Run2012B_file_index.txt": f"{EOS}/a.root\n{EOS}/b.root\n\n",
        "api/records/3": record(3, [], _file_indices=[{"key": "i.json", "files": entries}]),
        "api/records/4": record(4, []),
    }
    async with portal(**pages) as finder:
        assert sorted(names_of(await find(finder, "cernopendata://1"))) == ["a", "b", "c"]
        assert sorted(names_of(await find(finder, "cernopendata://2"))) == ["a", "b"]
        (first, _) = sorted(await find(finder, "cernopendata://3"), key=lambda file: file.paths)
        assert await find(finder, "cernopendata://4") == []
    assert (first.size_bytes, first.adler32) == (10, "00c0ffee")
    assert first.paths[0] == f"{EOS}/a.root"
    assert first.paths[1].endswith("/eos/opendata/cms/Run2012B/a.root"), "by HTTP, too"


@pytest.mark.parametrize(
    "page",
    [
        500,
        "<html>",
        "[]",
        {"metadata": None},
        {"metadata": {"files": [{"uri": 7}]}},
        record(1, [listed(f"{EOS}/x_file_index.txt")]),
    ],
)
async def test_a_portal_out_of_order_is_told(page: object) -> None:
    async with portal(**{"api/records/1": page}) as finder:
        with pytest.raises(FinderError) as caught:
            await find(finder, "cernopendata://1")
    assert type(caught.value) is FinderError


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servicex_server.did.finders.cernopendata._MAX_BYTES", 1_000)
    async with portal(**{"api/records/1": "x" * 2_000}) as finder:
        with pytest.raises(FinderError, match="larger than 1,000 bytes"):
            await find(finder, "cernopendata://1")


async def test_a_portal_that_is_away_is_told() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        message = "nobody listens"
        raise httpx.ConnectError(message, request=request)

    finder = CernOpenDataFinder("http://opendata.example", transport=httpx.MockTransport(refuse))
    with pytest.raises(FinderError, match=r"does not answer.*nobody listens"):
        await find(finder, "cernopendata://1")


def test_a_file_is_known_again_by_its_replicas() -> None:
    (file,) = files("a")
    two = replace(file, paths=("x", "y"))
    assert two.digest == replace(two, paths=("y", "x"), adler32="1").digest
    assert two.digest != file.digest
