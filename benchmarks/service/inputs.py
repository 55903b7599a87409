"""Input files that are there and hold nothing, for transforms that read nothing."""

from __future__ import annotations

from pathlib import Path


def make_empty(folder: Path, n_files: int, stem: str = "file") -> list[Path]:
    """So many of them; the server refuses at submit what does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{stem}{n}.root" for n in range(n_files)]
    for file in files:
        file.touch()
    return files
