"""The examples that newcomers start with do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat

EXAMPLES = Path(__file__).parents[2] / "examples"


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
