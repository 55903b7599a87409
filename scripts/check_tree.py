"""Check what no linter checks: sizes of functions and modules, text that has no place in a repository."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FUNCTION_LINES = 120
MAX_MODULE_LINES = 800
MAX_FILE_KB = 400
ROOT = Path(__file__).resolve().parents[1]

# Dependencies are named, never their hosts: the same files must work behind any mirror.
_HOSTS = ("pypi{}org", "pythonhosted{}org", "registry{}npmjs", "deb{}debian{}org", "crates{}io")
REGISTRY_HOST = re.compile("|".join(host.replace("{}", r"\.") for host in _HOSTS))
HOME_PATH = re.compile(r"(?<![\w/.])/(?:home|Users|root|work)/\w+")


def tracked_files() -> list[Path]:
    """Return the files that git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def find_long_code(path: Path, text: str) -> Iterator[str]:
    """Yield a complaint for each function and module that is too long to be read at once."""
    n_lines = text.count("\n")
    if n_lines > MAX_MODULE_LINES:
        yield f"{path}: {n_lines} lines; a module has at most {MAX_MODULE_LINES}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines of at most {MAX_FUNCTION_LINES}"


def find_foreign_text(path: Path, text: str) -> Iterator[str]:
    """Yield a complaint for each registry host and each path of somebody's machine."""
    for number, line in enumerate(text.splitlines(), start=1):
        for what, pattern in (
            ("a package registry host", REGISTRY_HOST),
            ("a path of one machine", HOME_PATH),
        ):
            if found := pattern.search(line):
                yield f"{path}:{number}: {what} ({found.group()}) does not belong in the repository"


def complaints() -> Iterator[str]:
    """Yield everything that is wrong with the tree."""
    for path in tracked_files():
        name = path.relative_to(ROOT)
        if path.stat().st_size > MAX_FILE_KB * 1024:
            yield f"{name}: larger than {MAX_FILE_KB} kB; generate it or fetch it in set-up"
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        yield from find_foreign_text(name, text)
        if path.suffix == ".py":
            yield from find_long_code(name, text)


def main() -> int:
    """Print the complaints; return 1 if there are any."""
    found = list(complaints())
    sys.stdout.writelines(f"{complaint}\n" for complaint in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
