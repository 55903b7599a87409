"""The folder of unfinished results: what killed workers leave there has to go some day."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path


def remove_older_than(folder: Path, moment: datetime) -> int:
    """Removes entries of `folder` that were last changed before `moment`; returns how many.

    Entries that vanish meanwhile, because their worker finished after all, are none of our business.
    """
    n_removed = 0
    for entry in list(folder.iterdir()):
        try:
            if entry.lstat().st_mtime >= moment.timestamp():
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        except FileNotFoundError:
            continue
        n_removed += 1
    return n_removed
