"""The program inside the sandbox: runs the user's code and writes down what it returned.

It imports nothing of ours. Standard input holds the job as JSON: source, path, what the input file must be,
bounds. The result goes to an open file whose descriptor is the only argument:

    buffers, each at a multiple of 8 bytes | header, JSON in UTF-8 | length of the header, uint64 | MAGIC

The header is {"outputs": [{"name", "layout"}]} or {"error": {"kind", "message", "line", "text"}}. A layout is
{"kind", "length", …}: `numbers` (dtype, buffer), `list` (offsets, content, text), `regular` (size, content,
text), `record` (fields or null, contents, name), `option` (index, negative where missing; content), `empty`.
A buffer is [offset, size in bytes], little-endian.

This is the only place where code of users is executed, in this process alone.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import struct
import sys
from typing import Any, NoReturn

MAGIC = b"SXSCRIPT"
STARTED = b"STARTED\n"
FILE_NAME = "<query>"
NAME = "generated_transformer"
"""The module that the official transformer makes of the source."""

_SHOWN_CHARACTERS = 600
_DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
    "float64",
)  # fmt: skip


class Undeliverable(Exception):
    """What the code returned is nothing that can be written."""


def main() -> NoReturn:
    """Runs the job; the exit code is 0 once something is written down."""
    descriptor = int(sys.argv[1])
    job = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.write(descriptor, STARTED)
    bound(job["bounds"])
    try:
        header = run(job, descriptor)
    except BaseException as error:  # noqa: BLE001  whatever the code does is told to its author
        header = {"error": explain(error, job["source"])}
        os.ftruncate(descriptor, len(STARTED))
    os.lseek(descriptor, 0, os.SEEK_END)
    text = json.dumps(header).encode()
    write(descriptor, text + struct.pack("<Q", len(text)) + MAGIC)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by the usual way: threads and exit functions of the code are not waited for.
    os._exit(0)


def bound(bounds: dict[str, int]) -> None:
    """Sets the limits of this process, never above those that it has already."""
    for name, value in bounds.items():
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (limit, limit))


def run(job: dict[str, Any], descriptor: int) -> dict[str, Any]:
    """The header about what the code returned; its buffers are written."""
    expected = job["identity"]
    if expected is not None:
        status = os.stat(job["path"])  # noqa: PTH116  no import that the code could need differently
        if [status.st_size, status.st_mtime_ns, status.st_ino] != expected:
            return {
                "error": {"kind": "input", "message": "the file changed while it was opened", "line": None}
            }
    returned = call(job["source"], job["path"])
    import awkward as ak  # noqa: PLC0415  only now, so that the code may set it up as it likes

    arrays = to_arrays(ak, returned)
    return {"outputs": [to_output(ak, name, array, descriptor) for name, array in arrays]}


def call(source: str, path: str) -> object:
    """What the code's `run_query` returns for the file."""
    import linecache  # noqa: PLC0415
    import types  # noqa: PLC0415

    lines = source.splitlines(keepends=True)
    linecache.cache[FILE_NAME] = (len(source), None, lines, FILE_NAME)
    module = types.ModuleType(NAME)
    module.__file__ = FILE_NAME
    sys.modules[NAME] = module
    exec(compile(source, FILE_NAME, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  see above
    function = getattr(module, "run_query", None)
    if not callable(function):
        message = "the code defines no run_query(file_path)"
        raise Undeliverable(message)
    result: object = function(path)
    return result


def to_arrays(ak: Any, returned: object) -> list[tuple[str | None, Any]]:
    """The arrays by name; None names an array that was returned alone."""
    if not isinstance(returned, dict):
        return [(None, to_array(ak, returned, "run_query returned"))]
    if not returned:
        message = "run_query returned an empty dict; it must hold at least one array"
        raise Undeliverable(message)
    for name in returned:
        if not isinstance(name, str):
            message = f"run_query returned a dict with the key {name!r:.100}; keys must be strings"
            raise Undeliverable(message)
    return [(name, to_array(ak, value, f"the key {name!r:.100} holds")) for name, value in returned.items()]


def to_array(ak: Any, value: object, where: str) -> Any:
    """The value as an array in memory."""
    import numpy as np  # noqa: PLC0415

    if isinstance(value, np.ndarray) and value.ndim > 0:
        value = ak.from_numpy(value.astype(value.dtype.newbyteorder("="), copy=False))
    if not isinstance(value, ak.Array):
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        message = f"{where} {kind}; it must be an awkward array, or run_query return a dict of them"
        raise Undeliverable(message)
    return ak.materialize(value) if hasattr(ak, "materialize") else value


def to_output(ak: Any, name: str | None, array: Any, descriptor: int) -> dict[str, Any]:
    """What the header tells about one array."""
    layout = ak.to_packed(array, highlevel=False)
    return {"name": name, "layout": describe(ak, layout, descriptor)}


def describe(ak: Any, layout: Any, descriptor: int) -> dict[str, Any]:
    """The layout in the few kinds that are transported; its buffers are written."""
    node: dict[str, Any] = {"length": len(layout)}
    match layout:
        case ak.contents.NumpyArray() if len(layout.shape) > 1:
            return describe(ak, layout.to_RegularArray(), descriptor)
        case ak.contents.NumpyArray():
            return node | {"kind": "numbers"} | numbers(layout.data, descriptor)
        case ak.contents.EmptyArray():
            return node | {"kind": "empty"}
        case ak.contents.RecordArray():
            contents = [describe(ak, content[: layout.length], descriptor) for content in layout.contents]
            fields = None if layout.is_tuple else list(layout.fields)
            return node | {
                "kind": "record",
                "fields": fields,
                "contents": contents,
                "name": layout.parameter("__record__"),
            }
        case ak.contents.RegularArray():
            content = describe(ak, layout.content[: layout.size * layout.length], descriptor)
            return node | {
                "kind": "regular",
                "size": layout.size,
                "content": content,
                "text": text_kind(layout),
            }
        case ak.contents.ListOffsetArray() | ak.contents.ListArray():
            lists = layout.to_ListOffsetArray64(True)
            content = describe(ak, lists.content[: lists.offsets[-1]], descriptor)
            return node | {
                "kind": "list",
                "offsets": numbers(lists.offsets.data, descriptor)["buffer"],
                "content": content,
                "text": text_kind(layout),
            }
        case ak.contents.IndexedArray():
            return describe(ak, layout.project(), descriptor)
    if layout.is_option:
        indexed = layout.to_IndexedOptionArray64()
        return node | {
            "kind": "option",
            "index": numbers(indexed.index.data, descriptor)["buffer"],
            "content": describe(ak, indexed.content, descriptor),
        }
    message = f"the result has values of different types in one place ({str(layout.form.type)[:200]})"
    raise Undeliverable(message)


def text_kind(layout: Any) -> str | None:
    """Whether the lists are text: `string`, `bytestring` or None."""
    kind = layout.parameter("__array__")
    return kind if kind in {"string", "bytestring"} else None


def numbers(data: Any, descriptor: int) -> dict[str, Any]:
    """Writes a flat array of numbers; tells its dtype and place."""
    import numpy as np  # noqa: PLC0415

    data = np.ascontiguousarray(data)
    if data.dtype.name not in _DTYPES:
        message = (
            f"the result has values of type {data.dtype.name}; these can be delivered: {', '.join(_DTYPES)}"
        )
        raise Undeliverable(message)
    data = data.astype(data.dtype.newbyteorder("<"), copy=False)
    start = -(-os.lseek(descriptor, 0, os.SEEK_END) // 8) * 8
    os.lseek(descriptor, start, os.SEEK_SET)
    write(descriptor, data.view(np.uint8).data if data.size else b"")
    return {"dtype": data.dtype.name, "buffer": [start, data.nbytes]}


def write(descriptor: int, data: Any) -> None:
    """Writes all of it; one call writes 2 GiB at most."""
    view = memoryview(data)
    while view.nbytes:
        view = view[os.write(descriptor, view[: 1 << 30]) :]


def explain(error: BaseException, source: str) -> dict[str, Any]:
    """What happened, in one line, and in which line of the user's code."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE_NAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename == FILE_NAME:
        line = error.lineno
    kind = "raised"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        kind = "memory"
    elif isinstance(error, OSError) and error.errno == errno.EFBIG:
        kind = "size"
    elif line is None and isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        kind = "disk"  # of the result; what the code itself writes to is its own
    elif isinstance(error, Undeliverable):
        kind = "returned"
    elif isinstance(error, SystemExit):
        kind = "exit"
    lines = source.splitlines()
    text = lines[line - 1].strip() if line is not None and 0 < line <= len(lines) else ""
    return {"kind": kind, "message": describe_error(error), "line": line, "text": text[:_SHOWN_CHARACTERS]}


def describe_error(error: BaseException) -> str:
    """Type and message; the message's lines joined."""
    try:
        message = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001  the code may define its own exceptions
        message = ""
    if isinstance(error, Undeliverable):
        return message[:_SHOWN_CHARACTERS]
    name = type(error).__name__
    return f"{name}: {message}"[:_SHOWN_CHARACTERS] if message else name


if __name__ == "__main__":
    main()
