"""The library of the official DID finders, 3.2.0, at work in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DRIVERS = Path(__file__).parent / "interop" / "drivers"
START_S = 60.0


def require_finder_library() -> Path:
    """Python with the library; skips the test where there is none, which in CI is an error."""
    python = Path(os.environ.get("SERVICEX_TEST_FINDER", ROOT / ".venv-finder" / "bin" / "python"))
    if not python.exists():
        message = "the environment of servicex-did-finder-lib is missing; `make finder` makes it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return python


@contextlib.contextmanager
def running_finder(broker: str, folder: Path, *, scheme: str = "rucio", files: Path) -> Iterator[None]:
    """The stub finder, started as the official ones are.

    It may take a moment more until it is connected; what it is asked waits in its queue.
    """
    python = require_finder_library()
    log = folder / f"finder-{scheme}.log"
    command = [
        *(str(python), "-m", "celery", f"--broker={broker}", "-A", "stub_finder", "worker"),
        *("-Q", f"did_finder_{scheme}", "--concurrency=1", f"--hostname=did_finder_{scheme}@%h"),
    ]
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    environment |= {"STUB_FILES": str(files), "STUB_SCHEME": scheme, "INSTANCE_NAME": "test"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=DRIVERS, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        end = time.monotonic() + START_S
        while "[queues]" not in (said := log.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > end:
                message = f"the finder does not start: {said[-3000:]}"
                raise RuntimeError(message)
            time.sleep(0.05)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
