"""Run the official client 2.6 as a user's script would, steered by JSON, in its own environment.

Standard input holds {"queries": [{"title", "files", "format", "uri", "query", "codegen"}]}; the configuration
is the servicex.yaml of the current folder. Standard output gets one answer per query: the files or URLs, or
the error.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from servicex import ServiceXDataset


async def run_query(wanted: dict[str, Any]) -> dict[str, Any]:
    """Ask once; return what a user would get."""
    files = ServiceXDataset(
        wanted["files"], backend_name="local", codegen=wanted["codegen"], status_callback_factory=None
    )
    verb = {"parquet": "parquet", "root-file": "rootfiles"}[wanted["format"]]
    try:
        if wanted.get("uri"):
            ask = getattr(files, f"get_data_{verb}_uri_async")
            streams = await ask(wanted["query"], title=wanted["title"], as_signed_url=True)
            return {"delivered": [stream.url for stream in streams]}
        paths = await getattr(files, f"get_data_{verb}_async")(wanted["query"], title=wanted["title"])
        return {"delivered": [str(path) for path in paths]}
    except Exception as error:  # noqa: BLE001  whatever the user would see
        return {"error": f"{type(error).__name__}: {error}"}


async def run(queries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask everything at the same time."""
    return list(await asyncio.gather(*(run_query(wanted) for wanted in queries)))


def main() -> None:
    """Read the job, run it, print the answer; the client's messages go to standard error."""
    answer_to = sys.stdout
    sys.stdout = sys.stderr
    json.dump(asyncio.run(run(json.load(sys.stdin)["queries"])), answer_to)


if __name__ == "__main__":
    main()
