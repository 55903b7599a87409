"""Transforms one file as a worker does, and prints what it would report.

Arguments are a folder, the code generator, the selection, and the replicas of the file. The store is in
the folder, and so are local files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.unit import FileDone, TransformUnit
from servicex_server.run.execute import transform_unit
from servicex_server.source.policy import SourcePolicy
from servicex_server.store.backends.local import LocalStore

REQUEST = RequestId("b5a1a1d5-5f0e-4a0c-b4b2-2f6c7f7b7b7b")


def main(folder: Path, codegen: str, selection: str, *paths: str) -> None:
    """Prints a JSON document."""
    unit = TransformUnit(
        request_id=REQUEST,
        file_id=FileId(1),
        paths=paths,
        codegen=codegen,
        selection=selection,
        result_format=ResultFormat.PARQUET,
        store_key=f"{REQUEST}/1-1",
        attempt=1,
    )
    policy = SourcePolicy(local_roots=(folder,), allowed_private_hosts=("127.0.0.1",))
    report = transform_unit(unit, LocalStore(folder / "store", min_free_bytes=0), policy)
    if isinstance(report, FileDone):
        document: dict[str, object] = {"path": report.path}
    else:
        failure = report.failure
        document = {
            "reason": failure.reason.value,
            "message": failure.message,
            "is_transient": failure.reason.is_transient,
        }
    print(json.dumps(document))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
