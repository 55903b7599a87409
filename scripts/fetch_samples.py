"""Fill a folder with the ROOT files that the pinned source archive of coffea carries."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def download(folder: Path) -> Path:
    """Return the archive. pip compares its SHA-256 and asks for its metadata with the pinned build tools."""
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    options += ["--no-binary", ":all:", "--require-hashes", "-r", str(ROOT / "requirements" / "samples.txt")]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, "--dest", str(folder)], check=True)
    (archive,) = folder.glob("coffea-*.tar.gz")
    return archive


def unpack_samples(archive: Path, target: Path) -> int:
    """Copy `*/tests/samples/*.root` of the archive into `target`; return how many there were."""
    target.mkdir()
    n_files = 0
    with tarfile.open(archive) as members:
        for member in members:
            path = Path(member.name)
            content = members.extractfile(member) if member.isfile() else None
            if content is None or path.suffix != ".root" or path.parts[1:3] != ("tests", "samples"):
                continue
            with (target / path.name).open("wb") as copy:
                shutil.copyfileobj(content, copy)
            n_files += 1
    return n_files


def main() -> None:
    """Fetch unless the files are there; the folder appears complete or not at all."""
    target = ROOT / ".cache" / "samples"
    if (target / "nano_dy.root").exists():
        return
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch-") as work:
        n_files = unpack_samples(download(Path(work)), Path(work) / "samples")
        shutil.rmtree(target, ignore_errors=True)
        (Path(work) / "samples").rename(target)
    sys.stdout.write(f"{n_files} sample files in {target.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
