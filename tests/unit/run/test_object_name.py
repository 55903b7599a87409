"""Names of results: usable as file names and as keys, whatever the input is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.model.kinds import ResultFormat
from servicex_server.model.naming import MAX_NAME_BYTES, object_name, show_location, unique_object_name


@pytest.mark.parametrize(
    ("path", "result_format", "name"),
    [
        ("root://h.org//store/x.root", ResultFormat.PARQUET, "root:::h.org::store:x.root.parquet"),
        ("root://h.org//store/x.root", ResultFormat.ROOT_FILE, "root:::h.org::store:x.root"),
        ("/data/x.root.1", ResultFormat.ROOT_RNTUPLE, ":data:x.root.1"),
        ("/data/x.root.1", ResultFormat.PARQUET, ":data:x.root.1.parquet"),
        ("/data/AOD.pool", ResultFormat.ROOT_FILE, ":data:AOD.pool.root"),
        ("x.root", ResultFormat.ROOT_FILE, "x.root"),
        ("https://me:pw@h.org/x.root?token=1", ResultFormat.PARQUET, "https:::h.org:x.root.parquet"),
        ("../x.root", ResultFormat.PARQUET, "_..:x.root.parquet"),
        ("a\x00b\n.root", ResultFormat.PARQUET, "a_b_.root.parquet"),
    ],
)
def test_a_name_is_the_path_with_colons(path: str, result_format: ResultFormat, name: str) -> None:
    assert object_name(path, result_format) == name


def test_long_names_keep_their_tail_and_stay_apart() -> None:
    names = {object_name(f"/{letter * 400}/täil.root", ResultFormat.PARQUET) for letter in "abü"}
    assert len(names) == 3
    assert all(name.endswith("täil.root.parquet") for name in names)


@given(path=st.text(max_size=400), result_format=st.sampled_from(ResultFormat))
def test_every_name_is_a_plain_file_name(path: str, result_format: ResultFormat) -> None:
    name = object_name(path, result_format)
    assert 0 < len(name.encode()) <= MAX_NAME_BYTES
    assert "/" not in name
    assert "\\" not in name
    assert not name.startswith((".", "-", "~"))
    assert name.isprintable() or not any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in name)
    assert object_name(path, result_format) == name


@given(
    paths=st.lists(
        st.sampled_from(["a/b.root", "a:b.root", "a:b", "c" * 300, "c" * 301 + ".root"]), max_size=30
    )
)
def test_names_within_a_request_are_unique_and_deterministic(paths: list[str]) -> None:
    for result_format in ResultFormat:
        runs = []
        for _ in range(2):
            taken: list[str] = []
            for path in paths:
                taken.append(unique_object_name(path, result_format, taken))
            runs.append(taken)
        assert runs[0] == runs[1]
        assert len(set(runs[0])) == len(paths)
        assert all(len(name.encode()) <= MAX_NAME_BYTES for name in runs[0])


def test_a_second_file_of_a_name_gets_a_number_before_the_extension() -> None:
    assert unique_object_name("a/b.root", ResultFormat.ROOT_FILE, {"a:b.root"}) == "a:b-2.root"


def test_locations_are_shown_without_secrets() -> None:
    assert show_location("root://me:pw@host:1094//x?authz=tok") == "root://host:1094//x?…"
    assert show_location("/plain/path?x@y") == "/plain/path?x@y"
