"""The examples that newcomers start with do what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pyarrow as pa

from local_server import local_server

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run_example(command: list[str], output: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SERVICEX_")}
    environment |= {"MPLBACKEND": "Agg", "DEMO_OUTPUT": str(output)}
    ran = subprocess.run(
        [sys.executable, *command],
        cwd=EXAMPLES,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_demonstration_draws_the_z_peak(samples: Path, tmp_path: Path) -> None:
    said = run_example(["demo.py"], tmp_path)
    assert said.count("as many as uproot selects") == 3, said
    assert said.index("pip install jupyterlab") < said.index("jupyter lab examples/quickstart.ipynb")
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_the_notebook_is_valid_and_runs(samples: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)  # type: ignore[no-untyped-call]  # the library annotates in part
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells)
    script = tmp_path / "notebook.py"
    script.write_text("\n".join(cell.source for cell in cells))
    said = run_example(
        ["-c", f"import sys; sys.path.insert(0, '.'); exec(open({str(script)!r}).read())"], tmp_path
    )
    assert "toy Drell-Yan" in said


def documented_script(page: str) -> str:
    """The first piece of Python on a page of the documentation."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def run_documented(page: str, folder: Path) -> str:
    script = folder / "documented.py"
    script.write_text(documented_script(page))
    return subprocess.run(
        [sys.executable, str(script)], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_the_documented_script_fetches_arrow_results(samples: Path, tmp_path: Path) -> None:
    shutil.copy(samples / "nano_dimuon.root", tmp_path / "nano_1.root")

    with local_server(tmp_path / "servicex-data", local_roots=[tmp_path]):
        assert run_documented("rest.md", tmp_path) == ""

    assert pa.ipc.open_file(tmp_path / "nano_1.arrow").read_all().num_rows == 18


def test_the_documented_script_makes_a_text_for_the_command_line(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "query.txt").write_text(run_documented("func_adl.md", tmp_path))

    command = ["transform", str(samples / "nano_dimuon.root"), "--codegen", "uproot"]
    command += ["--selection", f"@{tmp_path / 'query.txt'}", "--output", str(tmp_path / "muons.parquet")]
    said = subprocess.run(
        [sys.executable, "-m", "servicex_server", *command], capture_output=True, text=True, check=True
    ).stdout

    assert "40 rows in" in said
