"""What has to hold of a request when it has ended, whatever was broken meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

import boto3
from botocore.config import Config

from chaos.fleet import Fleet
from chaos.inputs import Inputs, Sums
from chaos.watch import Watch
from servicex_server.model.shared import is_note

_READERS = 4
_COUNTERS = """
    SELECT state, files, completed, failed, total_bytes, total_events, number FROM request WHERE id = %s
"""
_ROWS = """
    SELECT count(*) FILTER (WHERE status = 'success'), count(*) FILTER (WHERE status = 'failure'),
           coalesce(sum(size_bytes), 0)::bigint, coalesce(sum(n_events_in), 0)::bigint
    FROM file_result WHERE request_number = %s
"""
_OBJECTS = "SELECT store_key FROM file_result WHERE request_number = %s AND store_key IS NOT NULL"


def judge(fleet: Fleet, watch: Watch, request_id: str, inputs: Inputs, names: list[str]) -> list[str]:
    """What does not hold of a request for these files that is to be Complete."""
    good = {name: inputs.good[name] for name in names if name in inputs.good}
    bad = [name for name in names if name in inputs.bad]
    status = watch.status
    seen = (status["status"], status["files"], status["files-completed"], status["files-failed"])
    complaints: list[str] = []
    if seen != ("Complete", len(names), len(good), len(bad)):
        complaints.append(f"it ended as {seen}, {status.get('failure-info')}")
    results = watch.results(request_id)
    complaints += _judge_results(results, good, bad)
    complaints += judge_rows(fleet, request_id)
    complaints += _judge_content(status, results, good)
    return complaints


def count_left(fleet: Fleet, keys: set[str]) -> int:
    """How many of the store's objects are counted nowhere: of attempts that came to nothing, say."""
    counted = {
        str(key) for (key,) in fleet.query("SELECT store_key FROM file_result WHERE store_key IS NOT NULL")
    }
    return sum(not is_note(key) for key in keys - counted)


def _judge_results(results: list[dict[str, Any]], good: Mapping[str, Sums], bad: list[str]) -> Iterator[str]:
    delivered = Counter(_name(entry) for entry in results if entry["transform_status"] == "success")
    failed = Counter(_name(entry) for entry in results if entry["transform_status"] != "success")
    if delivered != Counter(list(good)):
        lacking = sorted(set(good) - set(delivered))
        twice = sorted(name for name, times in delivered.items() if times > 1)
        yield f"results lack {lacking[:5]} ({len(lacking)}), repeat {twice[:5]}"
    if failed != Counter(bad):
        yield f"failed are {sorted(failed)[:5]} instead of {bad}"
    objects = Counter(entry["s3-object-name"] for entry in results if entry["transform_status"] == "success")
    if any(times > 1 for times in objects.values()):
        yield "two results have one name"


def judge_reasons(errors: list[dict[str, Any]], bad: list[str]) -> Iterator[str]:
    """Whether each broken file is named with what is wrong with it."""
    reasons = {PurePosixPath(str(entry["file"])).name: str(entry["info"]) for entry in errors}
    for name in bad:
        reason = reasons.get(name, "")
        if not any(word in reason for word in ("truncated", "decompressed", "corrupt")):
            yield f"{name} is said to have failed because of {reason!r}"


def judge_rows(fleet: Fleet, request_id: str) -> Iterator[str]:
    """Whether counters, rows and objects agree."""
    (row,) = fleet.query(_COUNTERS, request_id)
    number = row[6]
    (rows,) = fleet.query(_ROWS, number)
    counters = (row[2], row[3], row[4], row[5])
    if rows != counters:
        yield f"counters {counters} differ from rows {rows}"
    lacking = {str(key) for (key,) in fleet.query(_OBJECTS, number)} - fleet.list_keys()
    if lacking:
        yield f"{len(lacking)} counted objects are not in the store: {sorted(lacking)[:3]}"


def _judge_content(
    status: dict[str, Any], results: list[dict[str, Any]], good: Mapping[str, Sums]
) -> Iterator[str]:
    scheme = "https" if status["minio-secured"] else "http"
    s3 = boto3.client(
        "s3",
        endpoint_url=f"{scheme}://{status['minio-endpoint']}",
        region_name="us-east-1",
        aws_access_key_id=status["minio-access-key"],
        aws_secret_access_key=status["minio-secret-key"],
        config=Config(
            s3={"addressing_style": "path"},
            max_pool_connections=_READERS,
            # In a soak something is always broken.
            retries={"total_max_attempts": 8, "mode": "standard"},
        ),
    )

    def read(entry: dict[str, Any]) -> bytes:
        answer = s3.get_object(Bucket=status["request_id"], Key=entry["s3-object-name"])
        content: bytes = answer["Body"].read()
        return content

    delivered = [entry for entry in results if entry["transform_status"] == "success"]
    with ThreadPoolExecutor(_READERS) as readers:
        for entry, content in zip(delivered, readers.map(read, delivered), strict=True):
            sums, name = Sums.of_parquet(content), _name(entry)
            if sums != good.get(name):
                yield f"{name} gave {sums} instead of {good.get(name)}"
            if len(content) != entry["total-bytes"]:
                yield f"{name} has {len(content)} bytes instead of {entry['total-bytes']}"


def _name(entry: dict[str, Any]) -> str:
    return PurePosixPath(str(entry["file-path"])).name
