"""A DID finder made with the official library, unmodified: started by `celery -A stub_finder worker`.

Names say what it finds: `good:N` N files below $STUB_FILES, in a few yields; `missing:x`, `odd:x` and
`broken:x` the three kinds of failure; `half:N` fails after N files; `empty:x` nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from servicex_did_finder_lib import DIDFinderApp
from servicex_did_finder_lib.exceptions import BadDatasetNameException, NoSuchDatasetException

FOLDER = os.environ.get("STUB_FILES", "/nowhere")
SCHEME = os.environ.get("STUB_SCHEME", "rucio")


def find_files(did: str, _info: dict[str, Any], _arguments: dict[str, Any]) -> Iterator[Any]:
    """What the library calls for each look-up."""
    kind, _, rest = did.partition(":")
    if kind == "missing":
        message = f"the catalogue has no {did}"
        raise NoSuchDatasetException(message)
    if kind == "odd":
        message = f"{did} has no scope"
        raise BadDatasetNameException(message)
    if kind == "broken":
        message = "the catalogue is shut"
        raise RuntimeError(message)
    if kind == "empty":
        return
    n_files = int(rest)
    # From the last on, so that an order comes from somewhere else.
    entries = [
        {
            "paths": [f"{FOLDER}/f{number:05d}.root"],
            "adler32": "0a1b2c3d",
            "file_size": 1000,
            "file_events": 10,
        }
        for number in reversed(range(n_files))
    ]
    yield entries[: n_files // 2]
    yield from entries[n_files // 2 : n_files // 2 + 3]
    yield entries[n_files // 2 + 3 :]
    if kind == "half":
        message = "the catalogue was shut meanwhile"
        raise RuntimeError(message)


app = DIDFinderApp("stub", did_finder_args={})


@app.did_lookup_task(name=f"did_finder_{SCHEME}.lookup_dataset")  # type: ignore[untyped-decorator]  # the library has no types
def lookup_dataset(self: Any, did: str, dataset_id: int, endpoint: str) -> None:
    """The task of the official finders."""
    self.do_lookup(did=did, dataset_id=dataset_id, endpoint=endpoint, user_did_finder=find_files)
