"""A query over files without any server: what `servicex_server.transform` and the command line run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from servicex_server.errors import FilesFailed, InvalidRequest, ServicexError, SourceRefused
from servicex_server.model.compression import parse_compression
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.naming import show_location, unique_object_name
from servicex_server.run.execute import TransformSummary, load_plan, to_failure, transform_file
from servicex_server.source.pattern import explain_wildcard
from servicex_server.source.policy import CALLERS_OWN, LOCAL_SCHEMES, REMOTE_SCHEMES, check, scheme_of
from servicex_server.source.upcoming import in_turn
from servicex_server.telemetry.machine import usable_cores

_SHOWN_FAILURES = 10
_CLIENTS_NAME_OF_ROOT_FILE = "root-ttree"
"""What the official client's users write for what goes over the wire as `root-file`."""


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file of which there is no result.

    Attributes:
        location: the file, safe to show.
        error: why; its text names the file if there are several.
    """

    location: str
    error: ServicexError


def transform_files(
    files: Sequence[str | Path],
    *,
    codegen: str,
    selection: str,
    result_format: ResultFormat | str,
    output: str | Path,
    tree_name: str | None = None,
    max_events: int | None = None,
    n_threads: int | None = None,
    compression: str | None = None,
) -> Iterator[TransformSummary | FailedFile]:
    """Runs the query over one file after the other, with the caller's own rights.

    A file that has none of the trees which the query names has failed, even where the server would deliver
    an empty result: whoever tries a query has more likely misspelt the name.

    Args:
        output: the result file; with several files, or if it is a folder already, the folder that gets
            one result per file, named as the server names them.
        n_threads: threads to work with; None for one per core.
        compression: codec and level of the results, as in `zstd:3`; None for the format's default.

    Yields:
        What became of each file, in their order; one that fails does not keep the others from their results.

    Raises:
        InvalidRequest: the query's text or the format is at fault, or a result would replace an input;
            nothing is done then.
    """
    if max_events is not None and max_events < 0:
        message = f"the number of events cannot be negative: {max_events}"
        raise InvalidRequest(message)
    kind = _to_format(result_format)
    codec = None if compression is None else parse_compression(compression, kind)
    places = _places(files, kind, Path(output))
    _refuse_overwriting(places)
    load_plan(codegen, selection, tree_name)
    # Closed when the caller leaves early: the next file is open by then.
    with closing(in_turn([file for file, _ in places], CALLERS_OWN)) as opened:
        for (file, place), source in zip(places, opened, strict=True):
            try:
                _refuse_pattern(file)
                yield transform_file(
                    source,
                    codegen=codegen,
                    selection=selection,
                    result_format=kind,
                    output=place,
                    policy=CALLERS_OWN,
                    tree_name=tree_name,
                    max_events=max_events,
                    n_threads=n_threads or usable_cores(),
                    compression=codec,
                    needs_tree=True,
                )
            except Exception as error:  # noqa: BLE001  whatever happens, the other files have their turn
                yield FailedFile(show_location(file), _explain(error, file, is_one_of_many=len(files) > 1))


def _refuse_pattern(file: str) -> None:
    """Raises SourceRefused for a URL with a wildcard: the server would be asked for a file of that name."""
    hint = explain_wildcard(file) if scheme_of(file) in REMOTE_SCHEMES else None
    if hint is not None:
        message = f"cannot read {show_location(file)!r}: {hint}"
        raise SourceRefused(message)


def _explain(error: Exception, file: str, *, is_one_of_many: bool) -> ServicexError:
    """The error with a text that names the file, if that is not clear from the call."""
    place = show_location(file)
    if not isinstance(error, ServicexError):
        unexpected = ServicexError(f"{place}: {to_failure(error).message}")
        unexpected.__cause__ = error
        return unexpected
    if is_one_of_many and place not in error.message:
        error.args = (f"{place}: {error.message}",)
    return error


def require_all(outcomes: Iterable[TransformSummary | FailedFile]) -> list[TransformSummary]:
    """The summaries, once every file was tried and if none failed.

    Raises:
        ServicexError: what went wrong with the only file.
        FilesFailed: which of several files failed, why, and the results of the others.
    """
    tried = list(outcomes)
    summaries = [outcome for outcome in tried if isinstance(outcome, TransformSummary)]
    failed = [outcome for outcome in tried if isinstance(outcome, FailedFile)]
    if not failed:
        return summaries
    first = failed[0].error
    if len(tried) == 1:
        raise first
    reasons = "; ".join(each.error.message for each in failed[:_SHOWN_FAILURES])
    more = "; ..." if len(failed) > _SHOWN_FAILURES else ""
    message = f"{len(failed)} of {len(tried)} files failed: {reasons}{more}"
    raise FilesFailed(
        message,
        failures=tuple((each.location, each.error) for each in failed),
        results=tuple(summary.path for summary in summaries),
    ) from first


def _to_format(result_format: ResultFormat | str) -> ResultFormat:
    if result_format == _CLIENTS_NAME_OF_ROOT_FILE:
        return ResultFormat.ROOT_FILE
    try:
        return ResultFormat(result_format)
    except ValueError as error:
        allowed = ", ".join(each.value for each in ResultFormat)
        message = f"unknown result format {str(result_format)!r}; allowed are {allowed}"
        raise InvalidRequest(message) from error


def _places(files: Sequence[str | Path], kind: ResultFormat, output: Path) -> list[tuple[str, Path]]:
    """Each input with the place of its result."""
    names = [str(file) for file in files]
    if not names:
        message = "no input file is given"
        raise InvalidRequest(message)
    try:
        if len(names) == 1 and not output.is_dir():
            output.parent.mkdir(parents=True, exist_ok=True)
            return [(names[0], output)]
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot write to {str(output)!r}: {error.strerror}"
        if len(names) > 1 and output.is_file():
            message = f"{str(output)!r} is a file; the results of several files need a folder"
        raise InvalidRequest(message) from error
    taken: set[str] = set()
    places = []
    for name in names:
        result = unique_object_name(name, kind, taken)
        taken.add(result)
        places.append((name, output / result))
    return places


def _refuse_overwriting(places: Sequence[tuple[str, Path]]) -> None:
    """Raises InvalidRequest if a result would take the place of any local input, by whatever path."""
    inputs = {
        _file_number(Path(check(CALLERS_OWN, name))): name
        for name, _ in places
        if scheme_of(name) in LOCAL_SCHEMES
    }
    inputs.pop(None, None)
    for _, place in places:
        name = inputs.get(_file_number(place))
        if name is not None:
            message = (
                f"the result {str(place)!r} would replace the input {show_location(name)!r}; "
                "choose another --output"
            )
            raise InvalidRequest(message)


def _file_number(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file, the same for all paths that lead to it; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
