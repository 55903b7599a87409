"""`servicex-server follow`: what happens to a request, as it happens."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from servicex_server.cli.endpoint import TokenFileOption, UrlOption, find_endpoint, show_command
from servicex_server.cli.stream import Event, read_events
from servicex_server.errors import ServicexError

_LISTED = 100
"""Failed files that are shown with their reasons."""
_KEPT = 10_000
_LINE_EVERY_S = 10.0

UNKNOWN = 2
"""Exit code when the outcome is not known."""


def follow(
    request_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the request, or its number.")],
    url: UrlOption = None,
    token_file: TokenFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a server that is away (default 300).")
    ] = 300.0,
) -> None:
    """Follow a request to its end. Exit 0 if every file was delivered, 1 if not, 2 if that is not known."""
    show: Show = ShowJson() if as_json else ShowLine() if sys.stdout.isatty() else ShowLines()
    ledger = Ledger()
    try:
        with find_endpoint(url, token_file).client() as client:
            for event in read_events(client, request_id, patience_s=patience, on_trouble=show.trouble):
                ledger.take(event)
                show.event(event)
    except ServicexError as error:
        show.close()
        typer.echo(f"error: {printable(error.message)}", err=True)
        raise typer.Exit(UNKNOWN) from None
    except KeyboardInterrupt:
        show.close()
        typer.echo("the request goes on; follow it again, or cancel it", err=True)
        raise typer.Exit(130) from None
    show.close()
    if not as_json:
        for line in ledger.summary():
            typer.echo(line)
        if ledger.n_failed:
            typer.echo(f"try them again: {show_command('retry', request_id, url, token_file)}")
    raise typer.Exit(ledger.exit_code)


class Ledger:
    """What is known of the request when it has ended."""

    def __init__(self) -> None:
        self._end: Mapping[str, object] | None = None
        self._failures: dict[object, tuple[str, str]] = {}

    def take(self, event: Event) -> None:
        data = event.data
        if event.name == "end":
            self._end = data or self._end
        elif event.name == "state":
            self._end = data
        elif event.name == "file" and data.get("state") == "failed":
            if len(self._failures) < _KEPT:
                self._failures[data.get("file_id")] = str(data.get("path")), str(data.get("reason"))
        elif event.name == "file":
            self._failures.pop(data.get("file_id"), None)  # a retry has delivered it

    @property
    def exit_code(self) -> int:
        if self._end is None:
            return UNKNOWN
        return 0 if self._end.get("state") == "Complete" and not self._end.get("failed") else 1

    @property
    def n_failed(self) -> int:
        """Files that failed, as far as is known."""
        n_failed = (self._end or {}).get("failed")
        return n_failed if isinstance(n_failed, int) else 0

    def summary(self) -> list[str]:
        """Lines to leave behind."""
        end = self._end or {}
        lines = [f"{end.get('state')}: {_count(end)}{_took(end)}"]
        if end.get("reason"):
            lines.append(f"reason: {printable(str(end['reason']))}")
        shown = list(self._failures.values())[:_LISTED]
        lines += [f"failed: {printable(path)}: {printable(reason)}" for path, reason in shown]
        if self.n_failed > len(shown):
            lines.append(f"and {self.n_failed - len(shown)} more failed files")
        return lines


class Show:
    """Tells a person, or another program, what happens."""

    def event(self, event: Event) -> None:
        """Shows an event."""

    def trouble(self, why: str) -> None:
        """Shows that the connection was lost and is made anew."""
        typer.echo(f"connecting again: {printable(why)}", err=True)

    def close(self) -> None:
        """Leaves the terminal as it was."""


class ShowJson(Show):
    """A line of JSON per event."""

    def event(self, event: Event) -> None:
        typer.echo(json.dumps({"event": event.name, "id": event.id, **event.data}))


class ShowLines(Show):
    """Lines for a log: each state, and progress every few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s = clock()
        self._lacked_workers = False

    def event(self, event: Event) -> None:
        if event.name == "state":
            typer.echo(f"{event.data.get('state')}: {_count(event.data)}")
        elif event.name == "progress" and (self._clock() >= self._next_s or self._is_otherwise(event)):
            self._lacked_workers = _lacks_workers(event.data)
            self._next_s = self._clock() + _LINE_EVERY_S
            typer.echo(f"{_count(event.data)}{_pace(event.data)}")

    def _is_otherwise(self, event: Event) -> bool:
        return _lacks_workers(event.data) is not self._lacked_workers


class ShowLine(Show):
    """One line of a terminal, written over and over."""

    def __init__(self) -> None:
        self._state = ""
        self._is_open = False

    def event(self, event: Event) -> None:
        if event.name == "state":
            self._state = str(event.data.get("state"))
        if event.name in {"state", "progress"}:
            self._write(f"{self._state}: {_count(event.data)}{_pace(event.data)}")

    def trouble(self, why: str) -> None:
        self._write(f"connecting again: {printable(why)}")

    def close(self) -> None:
        if self._is_open:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()

    def _write(self, text: str) -> None:
        self._is_open = True
        width = shutil.get_terminal_size().columns - 1
        sys.stdout.write(f"\r\x1b[K{text[:width]}")
        sys.stdout.flush()


def printable(text: str) -> str:
    """The text without anything that a terminal would obey.

    >>> printable("a\\x1b[2Jb\\nc")
    'a?[2Jb c'
    """
    return "".join(each if each.isprintable() else "?" for each in text.replace("\n", " "))


def _count(data: Mapping[str, object]) -> str:
    text = f"{data.get('delivered')} of {data.get('files')} files delivered"
    return f"{text}, {data['failed']} failed" if data.get("failed") else text


def _pace(data: Mapping[str, object]) -> str:
    if _lacks_workers(data):
        return "; no worker is connected, the server's administrator has to start one"
    parts: list[str] = []
    for key, form in (("files_per_s", "{:.1f} files/s"), ("input_mb_per_s", "{:.1f} MB/s")):
        if _number(data, key):
            parts.append(form.format(_number(data, key)))
    if _number(data, "events_per_s"):
        parts.append(f"{_number(data, 'events_per_s'):,.0f} events/s")
    if _number(data, "eta_s"):
        parts.append(f"about {_time(_number(data, 'eta_s'))} left")
    return "".join(f", {part}" for part in parts)


def _lacks_workers(data: Mapping[str, object]) -> bool:
    return data.get("lacks_workers") is True


def _took(data: Mapping[str, object]) -> str:
    return f", {_number(data, 'bytes_written') / 1e6:.1f} MB in {_time(_number(data, 'seconds'))}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _number(data: Mapping[str, object], key: str) -> float:
    value = data.get(key)
    return float(value) if isinstance(value, int | float) else 0.0
