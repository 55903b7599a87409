"""The files over HTTP, some of them slowly: a request then has a middle in which something can be broken."""

from __future__ import annotations

import time
import zlib
from pathlib import Path

from gated_files import GatedFiles


class PacedFiles(GatedFiles):
    """Serves `folder`; each answer waits up to `most_s`, always the same time for the same file."""

    def __init__(self, folder: Path, *, most_s: float) -> None:
        super().__init__(folder)
        self.most_s = most_s

    def pass_gate(self, name: str) -> None:
        """Waits for as long as the file's name says."""
        time.sleep(self.most_s * (zlib.crc32(name.encode()) % 100) / 100)
