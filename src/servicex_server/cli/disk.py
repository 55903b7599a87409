"""`servicex-server disk` and `sweep`: what results take, and making room."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from servicex_server.cli.options import ConfigOption, DataDirOption, load_settings

if TYPE_CHECKING:
    from servicex_server.db.kept import Kept
    from servicex_server.service.expire import Disk
    from servicex_server.service.remove import Young
    from servicex_server.service.retention import Doomed, Ended

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_TITLE_CHARACTERS = 40
_REASONS_SHOWN = 20


def disk(
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    limit: Annotated[int, typer.Option(min=0, help="Show so many requests, the largest first.")] = 30,
    as_json: JsonOption = False,
) -> None:
    """Tell what results take, by request, and what of it goes next; a server may be running."""
    settings = load_settings(config, data_dir=data_dir)
    from servicex_server.app.disk import describe  # noqa: PLC0415  keeps --help quick

    found = describe(settings, limit=limit)
    typer.echo(json.dumps(_disk_document(found), indent=2) if as_json else "\n".join(_disk_lines(found)))


def sweep(
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove results that are too old or too many, and leftovers; a server may be running."""
    settings = load_settings(config, data_dir=data_dir)
    from servicex_server.app.disk import sweep as run  # noqa: PLC0415  keeps --help quick

    swept = run(settings, is_dry=dry_run)
    if as_json:
        document = {
            "dry_run": dry_run,
            "expired": [_doomed_document(doomed) for doomed in swept.expired],
            "removed_requests": swept.removed,
            "orphans": swept.orphans,
            "scratch_files": swept.scratch,
            "spared": [_ended_document(ended) for ended in swept.spared],
            "young_objects": None if swept.young is None else _young_document(swept.young),
        }
        typer.echo(json.dumps(document, indent=2))
        return
    for doomed in swept.expired[:_REASONS_SHOWN]:
        size = show_size(doomed.request.size_bytes)
        typer.echo(
            f"{'would expire' if dry_run else 'expired'}  {doomed.request.id}  {size}: {doomed.reason}"
        )
    if len(swept.expired) > _REASONS_SHOWN:
        typer.echo(f"... and {len(swept.expired) - _REASONS_SHOWN} more")
    freed = show_size(sum(doomed.request.size_bytes for doomed in swept.expired))
    if dry_run:
        typer.echo(
            f"would remove {swept.removed} requests ({freed} of them expired), and objects of "
            f"{swept.orphans} unknown requests; nothing was changed"
        )
    else:
        typer.echo(
            f"removed {swept.removed} requests ({freed} of them expired), {swept.orphans} objects of unknown "
            f"requests, {swept.scratch} unfinished files"
        )
    for line in _stay_lines(swept.spared, swept.young):
        typer.echo(line)


def show_size(n_bytes: int) -> str:
    """A size for people.

    >>> show_size(999), show_size(1536), show_size(5 * 2**40)
    ('999 B', '1.5 KiB', '5.0 TiB')
    """
    if n_bytes < 1024:
        return f"{n_bytes} B"
    size = float(n_bytes)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def show_age(seconds: float) -> str:
    """A time span for people.

    >>> show_age(90), show_age(7200), show_age(3.6 * 86400)
    ('1 min', '2 h', '3 d')
    """
    for unit, length_s in (("d", 86400), ("h", 3600)):
        if seconds >= length_s:
            return f"{int(seconds // length_s)} {unit}"
    return f"{int(seconds // 60)} min"


def _disk_lines(found: Disk) -> list[str]:
    now = datetime.now(UTC)
    doomed = {each.request.id for each in found.doomed}
    rows = [("size", "files", "age", "state", "owner", "request", "title")]
    rows += [
        (
            show_size(kept.size_bytes),
            str(kept.files),
            show_age((now - (kept.finish_time or kept.submit_time)).total_seconds()),
            "goes next" if kept.id in doomed else kept.state.value,
            _printable(kept.owner),
            kept.id,
            _printable(kept.title or ""),
        )
        for kept in found.largest
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    totals = found.totals
    if totals.requests > len(found.largest):
        lines.append(f"... and {totals.requests - len(found.largest)} smaller ones (--limit shows more)")
    kept_bytes = f"{totals.requests} requests keep {totals.files} files, {show_size(totals.size_bytes)}"
    bound = f" of at most {show_size(found.bound_bytes)}" if found.bound_bytes is not None else ""
    lines.append(kept_bytes + bound)
    if found.room is not None:
        lines.append(
            f"disk: {show_size(found.room.free_bytes)} of {show_size(found.room.size_bytes)} are free"
        )
    going = show_size(sum(each.request.size_bytes for each in found.doomed))
    lines.append(f"{len(found.doomed)} requests with {going} go at the next sweep")
    return lines + _stay_lines(found.spared, found.young)


def _stay_lines(spared: Sequence[Ended], young: Young | None) -> list[str]:
    """Why a sweep frees less than one may expect."""
    lines = []
    if spared:
        size = show_size(sum(ended.size_bytes for ended in spared))
        lines.append(
            f"{len(spared)} requests with {size} stay although that is too much: they ended within the last "
            "hour, and their owners may still download the results"
        )
    if young is not None and young.objects:
        lines.append(
            f"{young.objects} objects with {show_size(young.size_bytes)} that no request has are younger "
            f"than {show_age(young.patience_s)} and stay until then: a worker may be about to report them"
        )
    return lines


def _disk_document(found: Disk) -> dict[str, object]:
    return {
        "totals": {
            "requests": found.totals.requests,
            "files": found.totals.files,
            "bytes": found.totals.size_bytes,
            "bound_bytes": found.bound_bytes,
        },
        "disk": None
        if found.room is None
        else {"free_bytes": found.room.free_bytes, "size_bytes": found.room.size_bytes},
        "requests": [_kept_document(kept) for kept in found.largest],
        "expiring": [_doomed_document(doomed) for doomed in found.doomed],
        "spared": [_ended_document(ended) for ended in found.spared],
        "young_objects": None if found.young is None else _young_document(found.young),
    }


def _kept_document(kept: Kept) -> dict[str, object]:
    return {
        "request_id": kept.id,
        "title": kept.title,
        "owner": kept.owner,
        "state": kept.state.value,
        "files": kept.files,
        "bytes": kept.size_bytes,
        "submitted": kept.submit_time.isoformat(),
        "ended": kept.finish_time.isoformat() if kept.finish_time else None,
    }


def _doomed_document(doomed: Doomed) -> dict[str, object]:
    return _ended_document(doomed.request) | {"reason": doomed.reason}


def _ended_document(ended: Ended) -> dict[str, object]:
    return {
        "request_id": ended.id,
        "ended": ended.finish_time.isoformat(),
        "bytes": ended.size_bytes,
    }


def _young_document(young: Young) -> dict[str, object]:
    return {"objects": young.objects, "bytes": young.size_bytes}


def _printable(text: str) -> str:
    """Users' own words on one line, without what would steer a terminal."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean if len(clean) <= _TITLE_CHARACTERS else clean[: _TITLE_CHARACTERS - 1] + "…"
