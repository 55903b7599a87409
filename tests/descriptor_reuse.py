"""A read that another thread overtakes: closing the file, and opening another one under its number."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

READS = (os.pread, os.preadv)


@contextmanager
def overtaken_reads(close: Callable[[], None], other: Path) -> Iterator[list[str]]:
    """Before the first read of this thread reaches the system, another thread closes, and opens `other`.

    The system gives a new file the lowest number that is free, which is the one that was closed last.

    Yields:
        The names of the reads that were overtaken: one, once it has happened.
    """
    overtaken: list[str] = []
    with ExitStack() as opened:

        def close_and_open() -> None:
            close()
            opened.enter_context(other.open("rb"))

        def watch(_frame: FrameType, event: str, called: object) -> None:
            if event == "c_call" and called in READS and not overtaken:
                overtaken.append(called.__name__)
                thread = threading.Thread(target=close_and_open)
                thread.start()
                thread.join(timeout=30)

        before = sys.getprofile()
        sys.setprofile(watch)
        try:
            yield overtaken
        finally:
            sys.setprofile(before)
