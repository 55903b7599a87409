"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of small real CMS, ATLAS, EDM4hep and Delphes files (`make samples` fetches it)."""
    folder = Path(os.environ.get("SERVICEX_TEST_SAMPLES", Path(__file__).parents[1] / ".cache" / "samples"))
    if not (folder / "nano_dy.root").exists():
        message = f"sample files are missing in {folder}; `make samples` fetches them"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder
