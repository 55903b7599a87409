"""What comes out of a sandbox: arrays as they were returned; anything else is refused."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servicex_server.errors import QueryError
from servicex_server.run.sandbox.inside import MAGIC, STARTED, Undeliverable, to_arrays, to_output
from servicex_server.run.sandbox.result import ScriptError, read_result


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile(buffering=0) as opened:
        opened.write(STARTED)
        yield opened


def finish(file: IO[bytes], header: object) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.seek(0, 2)
    file.write(text + struct.pack("<Q", len(text)) + MAGIC)


def transport(file: IO[bytes], returned: object) -> dict[str | None, ak.Array]:
    arrays = to_arrays(ak, returned)
    finish(file, {"outputs": [to_output(ak, name, array, file.fileno()) for name, array in arrays]})
    outputs = read_result(file.fileno())
    assert isinstance(outputs, tuple)
    return {output.name: output.array for output in outputs}


NESTED = ak.Array([[[1.5, 2.5], []], [], [[3.5]]])
ARRAYS = [
    ak.Array([1, 2, 3]),
    ak.Array(np.array([True, False])),
    ak.Array(np.arange(12, dtype=np.float16)),
    ak.from_numpy(np.arange(24, dtype=np.int8).reshape(2, 3, 4)),
    NESTED,
    NESTED[::-1],
    NESTED[[2, 0, 0]],
    NESTED[:, :1],
    ak.Array([]),
    ak.Array([[], []]),
    ak.Array(["é", "", "abc"]),
    ak.Array([b"\xff", b""]),
    ak.Array([1, None, 3]),
    ak.Array([[1.5, None], None, []]),
    ak.Array([{"x": 1, "y": [1.5]}, {"x": 2, "y": []}]),
    ak.Array([(1, 2.5), (2, 3.5)]),
    ak.Array([{"x": {"y": ["a", None]}}]),
    ak.zip({"pt": ak.Array([[1.0, 2.0], []]), "eta": ak.Array([[3.0, 4.0], []])}, with_name="Momentum"),
    ak.to_regular(ak.Array([["ab", "cd"], ["ef", "gh"]])),
    ak.mask(ak.Array([1.0, 2.0, 3.0]), np.array([True, False, True])),
    ak.Array([[1, 2], [3]])[:0],
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.type))
def test_brings_every_array_back(array: ak.Array, file: IO[bytes]) -> None:
    result = transport(file, array)[None]
    assert str(result.type) == str(array.type)
    assert result.to_list() == array.to_list()
    assert ak.is_valid(result)


def test_brings_a_dict_back_in_order(file: IO[bytes]) -> None:
    result = transport(file, {"b": NESTED, "a": np.arange(3, dtype=">f4"), "c": ak.Array(["x"])})
    assert list(result) == ["b", "a", "c"]
    assert str(result["a"].type) == "3 * float32"
    assert result["a"].to_list() == [0, 1, 2]


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ([1, 2], "run_query returned list; it must be an awkward array"),
        (None, "run_query returned NoneType"),
        ({}, "empty dict"),
        ({1: NESTED}, "with the key 1; keys must be strings"),
        ({"a": [1]}, "the key 'a' holds list"),
        (ak.Record({"x": 1}), "run_query returned awkward.highlevel.Record"),
        (ak.Array([1, "x"]), "values of different types in one place (union[int64, string])"),
        (np.array([1 + 2j]), "values of type complex128"),
        (np.array(["2020-01-01"], "datetime64[s]"), "values of type datetime64[s]"),
        (np.float64(1), "run_query returned numpy.float64"),
    ],
)
def test_tells_what_cannot_be_delivered(returned: object, problem: str, file: IO[bytes]) -> None:
    with pytest.raises(Undeliverable) as raised:
        transport(file, returned)
    assert problem in str(raised.value)


def test_brings_an_error_back(file: IO[bytes]) -> None:
    finish(file, {"error": {"kind": "raised", "message": "KeyError: 'x'", "line": 3, "text": "f['x']"}})
    assert read_result(file.fileno()) == ScriptError("raised", "KeyError: 'x'", 3, "f['x']")


@pytest.mark.parametrize("content", [b"", STARTED, b"x" * 15, b"x" * 100, MAGIC])
def test_a_file_without_an_end_is_no_result(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_bytes(content)
    with path.open("rb") as opened:
        assert read_result(opened.fileno()) is None


def numbers(length: int = 3, start: int = 8, n_bytes: int = 24, **more: object) -> dict[str, object]:
    buffer = [start, n_bytes]
    return {"kind": "numbers", "length": length, "dtype": "int64", "buffer": buffer} | more


def lists(offsets: object, content: object, length: int = 2) -> dict[str, object]:
    return {"kind": "list", "length": length, "offsets": offsets, "content": content, "text": None}


def nest(depth: int) -> object:
    node: object = numbers()
    for _ in range(depth):
        node = {"kind": "regular", "length": 3, "size": 1, "content": node}
    return node


# The file holds the int64 numbers 0, 2, 3, 99, -1, -9, 3 at bytes 8, 16, …
BAD_LAYOUTS: list[object] = [
    None,
    {},
    {"kind": "numbers"},
    numbers(kind="pickle"),
    numbers(dtype="object"),
    numbers(dtype="O"),
    numbers(dtype=["f8"]),
    numbers(length=-1),
    numbers(length=2),
    numbers(length=True),
    numbers(length=1 << 70, n_bytes=1 << 73),
    numbers(start=-8),
    numbers(start=9),
    numbers(start=1 << 40),
    numbers(n_bytes=1 << 40, length=1 << 37),
    numbers(buffer="x"),
    numbers(buffer=[8]),
    lists([8, 24], numbers(0, n_bytes=0)),
    lists([8, 24], numbers(2, n_bytes=16, start=40)),
    lists([24, 24], numbers(3, n_bytes=24, start=8)),
    lists([40, 24], numbers(3, n_bytes=24, start=8)),
    lists(None, numbers()),
    {"kind": "regular", "length": 1 << 40, "size": 0, "content": {"kind": "empty", "length": 0}},
    {"kind": "regular", "length": 2, "size": 2, "content": numbers()},
    {"kind": "regular", "length": 3, "size": 1, "content": numbers(), "text": "string"},
    {"kind": "record", "length": 1 << 40, "fields": [], "contents": []},
    {"kind": "record", "length": 3, "fields": ["a", "a"], "contents": [numbers(), numbers()]},
    {"kind": "record", "length": 3, "fields": ["a", "b"], "contents": [numbers()]},
    {"kind": "record", "length": 2, "fields": ["a"], "contents": [numbers()]},
    {"kind": "record", "length": 3, "fields": ["a"], "contents": [numbers()], "name": ""},
    {"kind": "record", "length": 3, "fields": ["a\n"], "contents": [numbers()]},
    {"kind": "record", "length": 3, "fields": ["a" * 201], "contents": [numbers()]},
    {"kind": "record", "length": 3, "fields": ["\ud800"], "contents": [numbers()]},
    {"kind": "option", "length": 3, "index": [8, 24], "content": numbers(2, start=40, n_bytes=16)},
    {"kind": "option", "length": 1, "index": [32, 8], "content": numbers()},
    {"kind": "empty", "length": 1},
    nest(60),
    # A buffer that is used again and again would make a small file a huge result.
    {
        "kind": "record",
        "length": 7,
        "fields": ["a", "b", "c"],
        "contents": [numbers(7, n_bytes=56) for _ in range(3)],
    },
]


@pytest.mark.parametrize("layout", BAD_LAYOUTS, ids=lambda layout: json.dumps(layout)[:60])
def test_refuses_what_our_program_does_not_write(layout: object, file: IO[bytes]) -> None:
    file.write(np.array([0, 2, 3, 99, -1, -9, 3], "<i8").tobytes())
    finish(file, {"outputs": [{"name": None, "layout": layout}]})
    with pytest.raises(QueryError):
        read_result(file.fileno())


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b"\xff\xfe",
        {"outputs": []},
        {"outputs": None},
        {"outputs": [1]},
        {"outputs": [{"name": None, "layout": numbers()}] * 2000},
        {"outputs": [{"name": 7, "layout": numbers()}]},
        {"outputs": [{"name": "a" * 300, "layout": numbers()}]},
        {"error": 1},
        {"error": {"kind": 1, "message": "x"}},
    ],
    ids=lambda header: str(header)[:40],
)
def test_refuses_headers_of_another_form(header: object, file: IO[bytes]) -> None:
    file.write(bytes(24))
    finish(file, header)
    with pytest.raises(QueryError):
        read_result(file.fileno())


def test_refuses_a_header_longer_than_its_file(file: IO[bytes]) -> None:
    file.write(b"{}" + struct.pack("<Q", 1 << 62) + MAGIC)
    with pytest.raises(QueryError, match="header is too long"):
        read_result(file.fileno())


def test_refuses_text_that_is_not_unicode(file: IO[bytes]) -> None:
    array = ak.from_buffers(
        ak.forms.ListOffsetForm(
            "i64",
            ak.forms.NumpyForm("uint8", parameters={"__array__": "char"}, form_key="b"),
            parameters={"__array__": "string"},
            form_key="a",
        ),
        1,
        {"a-offsets": np.array([0, 1]), "b-data": np.array([255], np.uint8)},
    )
    with pytest.raises(QueryError, match="text that is not UTF-8"):
        transport(file, array)


def mutate(draw: Callable[[Any], Any], data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bytes_give_an_array_or_an_error(file: IO[bytes], data: st.DataObject) -> None:
    file.truncate(len(STARTED))
    transport(file, {"a": ak.Array([[1, None], [], [3]]), "b": ak.Array(["x", "yz"])})
    whole = Path(f"/proc/self/fd/{file.fileno()}").read_bytes()
    file.truncate(0)
    file.seek(0)
    file.write(mutate(data.draw, whole))
    try:
        outputs = read_result(file.fileno())
    except QueryError:
        return
    for output in outputs if isinstance(outputs, tuple) else ():
        assert ak.is_valid(output.array)
        output.array.to_list()
