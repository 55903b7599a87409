"""The reader behind `servicex-server follow`: broken connections, absent servers, hostile words."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from servicex_server.cli.follow import Ledger, ShowLine, ShowLines, printable
from servicex_server.cli.stream import ContactLost, Event, Refused, parse, read_events
from servicex_server.errors import NotFound

Answer = Callable[[httpx.Request], httpx.Response]


def sse(*events: str) -> bytes:
    return b"".join(f"{event}\n\n".encode() for event in events)


def file(number: int, state: str = "delivered") -> str:
    data = f'{{"file_id": {number}, "path": "/{number}", "state": "{state}", "reason": "why"}}'
    return f"id: {number}\nevent: file\ndata: {data}"


END = 'id: 99\nevent: end\ndata: {"state": "Complete", "files": 3, "delivered": 3, "failed": 0}'


class Server:
    """Answers in turn as it is told; keeps the ids that it was asked to go on from."""

    def __init__(self, *answers: Answer | httpx.Response) -> None:
        self._answers = iter(answers)
        self.asked: list[str | None] = []
        self.slept: list[float] = []
        self.troubles: list[str] = []
        self.now_s = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.headers.get("Last-Event-ID"))
        answer = next(self._answers)
        return answer if isinstance(answer, httpx.Response) else answer(request)

    def read(self, patience_s: float = 300.0) -> list[Event]:
        client = httpx.Client(transport=httpx.MockTransport(self), base_url="http://server")
        with client:
            return list(
                read_events(
                    client,
                    "id",
                    patience_s=patience_s,
                    on_trouble=self.troubles.append,
                    sleep=self.sleep,
                    clock=lambda: self.now_s,
                )
            )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def down(request: httpx.Request) -> httpx.Response:
    message = "refused"
    raise httpx.ConnectError(message)


def broken(*events: str) -> Answer:
    def body() -> Iterator[bytes]:
        yield sse(*events)
        yield b"id: 50\nevent: fi"
        message = "peer closed"
        raise httpx.RemoteProtocolError(message)

    return lambda _: httpx.Response(200, content=body())


def ok(*events: str) -> httpx.Response:
    return httpx.Response(200, content=sse(*events))


def test_a_broken_stream_is_continued_after_the_last_whole_event() -> None:
    server = Server(broken(file(1), file(2)), down, httpx.Response(503), ok(": hi", file(3), END))
    events = server.read()
    assert [event.id for event in events] == ["1", "2", "3", "99"]
    assert server.asked == [None, "2", "2", "2"]
    assert len(server.slept) == 3
    assert "peer closed" in server.troubles[0]


def test_a_stream_that_its_server_ends_is_continued() -> None:
    server = Server(ok(file(1)), ok(file(2), END))
    assert [event.id for event in server.read()] == ["1", "2", "99"]


def test_patience_counts_from_the_last_contact() -> None:
    server = Server(*([down] * 4 + [ok(file(1))] + [down] * 100))
    with pytest.raises(ContactLost, match="away for more than 20 s"):
        server.read(patience_s=20)
    assert server.slept[:4] == [0.5, 1.0, 2.0, 4.0]
    assert server.slept[4] == 0.5
    assert max(server.slept) <= 15.0


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFound), (401, Refused), (403, Refused), (400, Refused)]
)
def test_what_will_not_change_is_not_tried_again(status: int, error: type[Exception]) -> None:
    server = Server(httpx.Response(status, json={"message": "the server's words"}))
    with pytest.raises(error, match="the server's words"):
        server.read()


def test_somebody_who_knows_the_end_hears_nothing() -> None:
    assert Server(httpx.Response(204)).read() == []


def test_events_may_come_in_any_pieces() -> None:
    whole = sse("retry: 2000", file(1), ": hi", 'event: state\ndata: {"state": "\u2028 \u0085"}', END)
    expected = list(parse([whole]))
    assert [event.name for event in expected] == ["file", "state", "end"]
    assert expected[1].data["state"] == "\u2028 \u0085"
    for size in (1, 2, 7, 50):
        assert list(parse(whole[at : at + size] for at in range(0, len(whole), size))) == expected


def test_what_is_no_event_stream_is_not_read_for_ever() -> None:
    with pytest.raises(ContactLost, match="is it a ServiceX server"):
        list(parse(b"x" * 65536 for _ in range(100)))
    with pytest.raises(ContactLost, match="no JSON"):
        list(parse([b"data: <html>\n\n"]))


def ledger_of(*events: str) -> Ledger:
    ledger = Ledger()
    for event in parse([sse(*events)]):
        ledger.take(event)
    return ledger


def end(state: str, failed: int = 0) -> str:
    data = f'{{"state": "{state}", "files": 3, "delivered": {3 - failed}, "failed": {failed}, "reason": "R"}}'
    return f"id: 99\nevent: end\ndata: {data}"


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ((end("Complete"),), 0),
        ((file(1, "failed"), end("Complete", 1)), 1),
        ((end("Canceled"),), 1),
        ((end("Fatal"),), 1),
        ((end("Bad Dataset"),), 1),
        ((), 2),
    ],
)
def test_exit_code_tells_the_outcome(events: tuple[str, ...], code: int) -> None:
    assert ledger_of(*events).exit_code == code


def test_failed_files_are_listed_unless_a_retry_delivered_them() -> None:
    ledger = ledger_of(
        file(1, "failed"),
        file(2, "failed"),
        end("Complete", 2),
        file(1),
        file(3, "failed"),
        end("Complete", 2),
    )
    assert [line for line in ledger.summary() if line.startswith("failed")] == [
        "failed: /2: why",
        "failed: /3: why",
    ]


def test_a_list_of_failures_is_bounded() -> None:
    ledger = ledger_of(*(file(n, "failed") for n in range(300)), end("Complete", 300))
    lines = ledger.summary()
    assert len(lines) < 110
    assert lines[-1] == "and 200 more failed files"


def test_words_of_files_do_not_reach_the_terminal_as_commands() -> None:
    assert printable("a\x1b[2J\x07\u202eb\nc") == "a?[2J??b c"


def test_progress_in_a_log_comes_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 0.0
    show = ShowLines(lambda: now_s)
    for second in range(21):
        now_s = float(second)
        counts: dict[str, object] = {"files": 30, "delivered": second, "failed": 0, "eta_s": 100.0}
        show.event(Event("progress", counts))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{n} of 30 files delivered, about 2 min left" for n in (0, 10, 20)]


def test_a_terminal_has_one_line_that_fits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show = ShowLine()
    counts: dict[str, object] = {"files": 30, "delivered": 7, "failed": 2, "files_per_s": 2.5, "eta_s": 9.2}
    show.event(Event("state", {"state": "Running", **counts}))
    show.event(Event("progress", counts))
    show.trouble("the server\x07 went")
    show.close()
    out = capsys.readouterr().out
    assert "\n" not in out
    lines = out.split("\r\x1b[K")[1:]
    assert lines[1] == "Running: 7 of 30 files delivered, 2 fai"
    assert lines[2] == "connecting again: the server? went"
    assert lines[3] == ""


def test_a_log_says_at_once_that_no_worker_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    show = ShowLines(lambda: 0.0)
    for lacks_workers in (False, True, True, False):
        counts: dict[str, object] = {"files": 3, "delivered": 1, "lacks_workers": lacks_workers}
        show.event(Event("progress", counts))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("; ")[2][:22] for line in lines] == ["", "no worker is connected", ""]
