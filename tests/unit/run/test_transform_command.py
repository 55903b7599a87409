"""`servicex-server transform` and `servicex_server.transform`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import uproot
from typer import Typer
from typer.testing import CliRunner, Result

import servicex_server
from servicex_server.cli.transform import transform
from servicex_server.errors import FilesFailed, InvalidRequest, QuerySyntaxError, UnknownName, UnknownTree

SELECTION = json.dumps([{"treename": "Events", "expressions": ["x"], "cut": "x >= 5"}])


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a" / "x.root", tmp_path / "b" / "x.root"]
    for path in paths:
        path.parent.mkdir()
        with uproot.recreate(path) as file:
            file.mktree("Events", {"x": "f8"})
            file["Events"].extend({"x": np.arange(20.0)})
    return paths


def invoke(*arguments: str | Path) -> Result:
    app = Typer()
    app.command()(transform)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run(*arguments: str | Path) -> tuple[int, str, BaseException | None]:
    result = invoke(*arguments)
    return result.exit_code, result.stdout, result.exception


def test_one_file_becomes_one_file(files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "new" / "out.parquet"
    code, printed, _ = run(
        files[0], "--codegen", "uproot-raw", "--selection", SELECTION, "--output", output, "--json"
    )
    assert code == 0
    (entry,) = json.loads(printed)
    assert (entry["rows_in"], entry["rows_out"]) == (20, 15)
    assert entry["bytes_written"] == output.stat().st_size
    assert entry["bytes_read"] > 0
    assert entry["seconds"] > 0
    assert set(entry["seconds_by_stage"]) == {"read", "decompress", "filter", "encode", "write"}
    assert {"bytes_decompressed", "cut_flow", "sums_of_weights"} <= entry.keys()
    assert ak.to_list(ak.from_parquet(output).x) == list(range(5, 20))


@pytest.mark.parametrize(
    ("name", "extension"),
    [
        ("parquet", ".root.parquet"),
        ("root-file", ".root"),
        ("root-rntuple", ".root"),
        ("arrow", ".root.arrow"),
        ("hdf5", ".root.h5"),
    ],
)
def test_several_files_become_a_folder(files: list[Path], tmp_path: Path, name: str, extension: str) -> None:
    (tmp_path / "query").write_text(SELECTION + "\n")
    code, printed, _ = run(
        *files,
        "--codegen",
        "uproot-raw",
        "--selection",
        f"@{tmp_path / 'query'}",
        "--output",
        tmp_path / "out",
        "--format",
        name,
        "--max-events",
        "10",
    )
    assert code == 0
    assert printed.count("10 rows in, 5 rows out") == 2
    expected = {str(path).replace("/", ":").removesuffix(".root") + extension for path in files}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected


def test_the_codec_is_the_one_asked_for(files: list[Path], tmp_path: Path) -> None:
    options = ["--codegen", "uproot-raw", "--selection", SELECTION, "--compression", "gzip:9"]
    code, _, error = run(files[0], *options, "--output", tmp_path / "out")
    assert (code, error) == (0, None)
    assert pq.ParquetFile(tmp_path / "out").metadata.row_group(0).column(0).compression == "GZIP"


def test_the_function_does_the_same(files: list[Path], tmp_path: Path) -> None:
    summaries = servicex_server.transform(
        files, codegen="uproot-raw", selection=SELECTION, output=tmp_path / "out", max_events=7
    )
    assert [(each.n_events_in, each.n_events_out) for each in summaries] == [(7, 2), (7, 2)]
    assert all(each.path.parent == tmp_path / "out" for each in summaries)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"codegen": "nonsense"}, "nonsense"),
        ({"selection": "nonsense"}, ""),
        ({"result_format": "csv"}, "allowed are parquet, root-file, root-rntuple, arrow, hdf5"),
        ({"max_events": -1}, "negative"),
        ({"compression": "zip"}, "allowed: zstd"),
        ({"selection": json.dumps([{"treename": "Events", "expressions": ["xx"]}])}, "xx"),
    ],
)
def test_what_is_wrong_is_told(files: list[Path], tmp_path: Path, change: dict[str, str], text: str) -> None:
    arguments = {"codegen": "uproot-raw", "selection": SELECTION, "output": tmp_path / "out", **change}
    with pytest.raises(InvalidRequest) as caught:
        servicex_server.transform(files[0], **arguments)  # type: ignore[arg-type]  # the point of the test
    assert text in caught.value.message
    assert not (tmp_path / "out").exists()


def test_several_results_do_not_fit_into_a_file(files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.write_text("mine")

    with pytest.raises(InvalidRequest, match="the results of several files need a folder"):
        servicex_server.transform(files, codegen="uproot-raw", selection=SELECTION, output=output)

    assert output.read_text() == "mine"


def test_one_bad_file_does_not_keep_the_others_from_their_results(files: list[Path], tmp_path: Path) -> None:
    with uproot.recreate(files[0]) as file:
        file.mktree("Events", {"y": "f8"})
    with pytest.raises(FilesFailed, match=r"^1 of 2 files failed: ") as caught:
        servicex_server.transform(files, codegen="uproot-raw", selection=SELECTION, output=tmp_path / "out")
    ((location, error),) = caught.value.failures
    assert (location, type(error)) == (str(files[0]), UnknownName)
    assert error.message.startswith(f"{files[0]}: no branch 'x'")
    assert error.message in caught.value.message
    assert list(caught.value.results) == list((tmp_path / "out").iterdir())
    assert ak.to_list(ak.from_parquet(caught.value.results[0]).x) == list(range(5, 20))


def test_the_command_reports_each_file_and_fails_at_the_end(files: list[Path], tmp_path: Path) -> None:
    options = [
        "--codegen",
        "uproot-raw",
        "--selection",
        SELECTION,
        "--output",
        str(tmp_path / "out"),
        "--json",
    ]
    result = invoke(tmp_path / "no.root", *files, tmp_path / "neither.root", *options)
    assert result.exit_code == 1
    entries = json.loads(result.stdout)
    assert ["error" in entry for entry in entries] == [True, False, False, True]
    lines = result.stderr.splitlines()
    assert [line.startswith("error: ") for line in lines] == [True, True]
    for line, name, entry in zip(lines, ("no.root", "neither.root"), entries[::3], strict=True):
        assert str(tmp_path / name) in line
        assert entry == {"file": str(tmp_path / name), "error": line.removeprefix("error: ")}
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_query_that_does_not_parse_is_told_once(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(QuerySyntaxError):
        servicex_server.transform(files, codegen="uproot-raw", selection="{", output=tmp_path / "out")


def test_a_tree_that_does_not_exist_is_no_empty_success(files: list[Path], tmp_path: Path) -> None:
    misspelt = json.dumps([{"treename": "Event"}])
    with pytest.raises(UnknownTree, match="no tree 'Event' in the file; its trees: Events"):
        servicex_server.transform(
            files[0], codegen="uproot-raw", selection=misspelt, output=tmp_path / "out.parquet"
        )
    assert not (tmp_path / "out.parquet").exists()


def test_a_tree_that_is_missing_beside_others_is_a_warning(files: list[Path], tmp_path: Path) -> None:
    selection = json.dumps([{"treename": ["Events", "Gone"]}])
    result = invoke(
        files[0], "--codegen", "uproot-raw", "--selection", selection, "--output", tmp_path / "o", "--json"
    )
    assert result.exit_code == 0
    assert result.stderr == f"warning: {files[0]} lacks 'Gone'; skipped\n"
    assert json.loads(result.stdout)[0]["missing_trees"] == ["Gone"]


def test_the_clients_name_of_the_root_format_is_known(files: list[Path], tmp_path: Path) -> None:
    servicex_server.transform(
        files[0], codegen="uproot-raw", selection=SELECTION, output=tmp_path / "o", result_format="root-ttree"
    )
    with uproot.open(tmp_path / "o") as file:
        assert file["Events"].num_entries == 15


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("spelling", ["{0}", "file://{0}"])
def test_a_result_never_takes_the_place_of_an_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, spelling: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x.root", "y.root"):
        with uproot.recreate(name) as file:
            file.mktree("Events", {"x": "f8"})
    before = Path("x.root").read_bytes(), Path("y.root").read_bytes()
    names = [spelling.format(tmp_path / "x.root"), "y.root"][:number]
    if number == 1:
        outputs = ["x.root", "alias.root", "other.root"]
        Path("alias.root").symlink_to("x.root")
        Path("other.root").hardlink_to("x.root")
    else:
        outputs = ["."]
    for output in outputs:
        with pytest.raises(InvalidRequest, match=r"would replace the input .*choose another --output"):
            servicex_server.transform(
                names, codegen="uproot-raw", selection=SELECTION, output=output, result_format="root-file"
            )
    assert (Path("x.root").read_bytes(), Path("y.root").read_bytes()) == before


def test_a_selection_file_that_is_missing_is_told(files: list[Path], tmp_path: Path) -> None:
    code, _, error = run(
        files[0], "--codegen", "uproot-raw", "--selection", "@no", "--output", tmp_path / "out"
    )
    assert code != 0
    assert isinstance(error, InvalidRequest)
    assert "'no'" in error.message


def test_patterns_of_urls_are_no_files(files: list[Path], tmp_path: Path) -> None:
    url = "root://nowhere.invalid//run1/*.root"
    options = ("--codegen", "uproot-raw", "--selection", SELECTION, "--output", tmp_path / "out")
    result = invoke(files[0], url, *options)
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: cannot read '{url}': wildcards are not expanded: list the files, or ask a server for "
        f"the data set xrootd://{url}\n"
    )
    assert len(list((tmp_path / "out").iterdir())) == 1, "the other file is done"


def test_the_command_fails_with_one_clear_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from servicex_server.cli import main; main()", "transform", "no.root"]
    options = ["--codegen", "uproot-raw", "--selection", SELECTION, "--output", str(tmp_path / "out")]
    ended = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert "no.root" in ended.stderr


def test_importing_the_package_does_not_load_the_engine() -> None:
    program = (
        "import sys, servicex_server, servicex_server.cli.transform; "
        "print([name for name in ('uproot', 'awkward', 'pyarrow', 'numpy', 'httpx') if name in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.strip() == "[]"
