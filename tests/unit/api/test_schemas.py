"""The shapes on the wire, key by key."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.api.schemas import (
    CAPABILITIES,
    DatasetDetails,
    DetailedProgress,
    FileErrors,
    FileOutcome,
    Info,
    ListedRequest,
    Progress,
    RequestStatus,
    naive_time,
    wire_time,
)
from servicex_server.api.submission import TransformSubmission
from servicex_server.errors import InvalidRequest
from servicex_server.model.ids import DatasetId, FileId, RequestId
from servicex_server.model.kinds import (
    CLIENT_FORMATS,
    FileStatus,
    LookupStatus,
    RequestState,
    ResultDestination,
    ResultFormat,
)
from servicex_server.model.request import (
    Dataset,
    DatasetFile,
    FileCounts,
    FileResult,
    Statistics,
    TransformRequest,
)
from servicex_server.model.tally import CutStep, StageSeconds, Tally, WeightSum

NOON = datetime(2026, 5, 15, 12, 0, 0, 0, tzinfo=UTC)
ID = RequestId("9f1b2c3d-0000-4000-8000-0123456789ab")

REQUEST = TransformRequest(
    id=ID,
    number=1,
    owner="ann",
    title="dimuons",
    did="abc",
    dataset_id=DatasetId(3),
    selection="[]",
    codegen="uproot-raw",
    tree_name=None,
    result_format=ResultFormat.PARQUET,
    result_destination=ResultDestination.OBJECT_STORE,
    state=RequestState.RUNNING,
    failure_info=None,
    counts=FileCounts(files=5, completed=2, failed=1),
    submit_time=NOON,
    finish_time=None,
    access_key="key",
    secret_key="secret",
)
RESULT = FileResult(
    number=7,
    request_id=ID,
    file_id=FileId(4),
    path="/data/a.root",
    status=FileStatus.SUCCESS,
    object_name=":data:a.root.parquet",
    store_key="x/4-1",
    size_bytes=1000,
    n_events_in=500,
    n_events_out=50,
    bytes_read=5000,
    seconds=2.0,
    attempts=1,
    reason=None,
    created_at=NOON,
)
FAILURE = replace(
    RESULT, status=FileStatus.FAILURE, object_name=None, store_key=None, size_bytes=0, reason="no branch [x]"
)
DATASET = Dataset(
    id=DatasetId(3),
    name="abc",
    did_finder="user",
    n_files=1,
    size_bytes=10,
    n_events=20,
    last_used=NOON,
    last_updated=NOON,
    lookup_status=LookupStatus.COMPLETE,
    is_stale=False,
)
FILE = DatasetFile(FileId(4), DatasetId(3), ("/data/a.root", "root://h//a.root"), None, 10, 20)


def wire(
    model: Info | ListedRequest | Progress | FileOutcome | FileErrors | DatasetDetails,
) -> dict[str, object]:
    """What goes over the wire."""
    content: dict[str, object] = json.loads(model.model_dump_json(by_alias=True))
    return content


def status(request: TransformRequest = REQUEST) -> dict[str, object]:
    return wire(
        RequestStatus.from_request_at(
            request, app_version="1.2.3", base_url="http://sx:5000", host="sx:5000", is_secured=False
        )
    )


def listed(request: TransformRequest = REQUEST) -> dict[str, object]:
    return wire(ListedRequest.from_request(request, app_version="1.2.3", base_url="http://sx:5000"))


def test_status_has_every_key_with_its_type() -> None:
    answer = status()
    texts = (
        "request_id",
        "did",
        "title",
        "selection",
        "image",
        "generated-code-cm",
        "app-version",
        "code-gen-image",
    )
    assert all(isinstance(answer[key], str) for key in texts)
    numbers = ("did_id", "workers", "files", "files-completed", "files-failed", "files-remaining")
    assert all(type(answer[key]) is int for key in numbers)
    assert answer["tree-name"] is None
    assert answer["result-destination"] == "object-store"
    assert answer["result-format"] == "parquet"
    assert answer["status"] == "Running"
    assert answer["submit-time"] == "2026-05-15T12:00:00.000000Z"
    assert answer["finish-time"] == "None"
    assert answer["failure-info"] is None
    assert "&_g=()" in str(answer["log-url"])
    assert answer["minio-endpoint"] == "sx:5000"
    assert answer["minio-secured"] is False
    assert (answer["minio-access-key"], answer["minio-secret-key"]) == ("key", "secret")


def test_list_never_shows_keys() -> None:
    assert status().keys() - listed().keys() == {
        "minio-endpoint",
        "minio-secured",
        "minio-access-key",
        "minio-secret-key",
    }


def test_finish_time_is_a_time_once_finished() -> None:
    finished = replace(REQUEST, state=RequestState.COMPLETE, finish_time=NOON + timedelta(seconds=1.5))
    assert status(finished)["finish-time"] == "2026-05-15T12:00:01.500000Z"


def test_remaining_is_null_while_no_file_is_known() -> None:
    assert status(replace(REQUEST, counts=FileCounts()))["files-remaining"] is None
    assert status()["files-remaining"] == 2


def test_results_of_earlier_requests_are_counted() -> None:
    assert status()["files-cached"] == 0
    assert status(replace(REQUEST, cached=2))["files-cached"] == 2
    assert wire(FileOutcome.from_result(replace(RESULT, is_cached=True)))["cached"] is True


def test_failure_info_cannot_break_the_client() -> None:
    ended = replace(REQUEST, state=RequestState.FATAL, failure_info="no branch 'x'; nearest: [y, z]")
    assert listed(ended)["failure-info"] == "no branch 'x'; nearest: (y, z)"


def test_title_cannot_break_the_client() -> None:
    assert status(replace(REQUEST, title="jets [/GeV]"))["title"] == "jets (/GeV)"


def test_result_entry_mixes_hyphens_and_underscores_as_the_official_one() -> None:
    assert wire(FileOutcome.from_result(RESULT)) == {
        "id": 7,
        "request-id": ID,
        "file-id": 4,
        "file-path": "/data/a.root",
        "s3-object-name": ":data:a.root.parquet",
        "transform_status": "success",
        "transform_time": 2.0,
        "total-events": 500,
        "events-out": 50,
        "total-bytes": 1000,
        "bytes-read": 5000,
        "avg-rate": 250.0,
        "created_at": "2026-05-15T12:00:00.000000",
        "reason": None,
        "cached": False,
    }


def test_failed_entry_has_a_reason_and_no_object() -> None:
    entry = wire(FileOutcome.from_result(replace(FAILURE, seconds=0.0)))
    assert entry["transform_status"] == "failure"
    assert entry["s3-object-name"] is None
    assert entry["reason"] == "no branch (x)"
    assert entry["avg-rate"] == 0.0


def test_times_are_utc_with_microseconds() -> None:
    cern = datetime(2026, 5, 15, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    assert wire_time(cern) == "2026-05-15T12:00:00.000000Z"
    assert naive_time(cern) == "2026-05-15T12:00:00.000000"


def test_progress_has_the_old_names_too() -> None:
    statistics = Statistics(1.0, 3.0, 2.0, 4.0, 2000, 1000, 250.0)
    answer = wire(Progress.from_request(REQUEST, statistics))
    assert answer["files-processed"] == answer["files-completed"] == 2
    assert answer["files-skipped"] == answer["files-failed"] == 1
    assert answer["files-remaining"] == 2
    assert answer["request-id"] == ID
    assert answer["stats"] == {
        "min-time": 1.0,
        "max-time": 3.0,
        "avg-time": 2.0,
        "total-time": 4.0,
        "avg-rate": 250.0,
        "total-bytes": 2000,
        "total-events": 1000,
    }


def test_nothing_remains_of_an_ended_request() -> None:
    empty = replace(REQUEST, state=RequestState.COMPLETE, counts=FileCounts())
    assert wire(Progress.from_request(empty, None))["files-remaining"] == 0
    unknown = replace(empty, state=RequestState.LOOKUP)
    assert wire(Progress.from_request(unknown, None))["files-remaining"] is None


def test_old_client_ends_on_a_canceled_request_and_finds_its_reason() -> None:
    canceled = replace(REQUEST, state=RequestState.CANCELED)
    answer = wire(Progress.from_request(canceled, None))
    assert (answer["files-remaining"], answer["files-skipped"], answer["files-failed"]) == (0, 3, 1)
    bad = replace(
        canceled, state=RequestState.BAD_DATASET, counts=FileCounts(), failure_info="no such data set"
    )
    assert wire(Progress.from_request(bad, None))["files-skipped"] == 1
    errors = wire(FileErrors.from_failures(bad, []))["errors"]
    assert errors == [{"pod-name": "", "file": "abc", "events": 0, "info": "no such data set"}]


def test_errors_name_file_and_reason() -> None:
    assert wire(FileErrors.from_failures(REQUEST, [FAILURE]))["errors"] == [
        {"pod-name": "", "file": "/data/a.root", "events": 500, "info": "no branch (x)"}
    ]


def test_dataset_shape() -> None:
    answer = wire(DatasetDetails.from_files(DATASET, [FILE, replace(FILE, adler32="0")]))
    files = answer.pop("files")
    assert answer == {
        "id": 3,
        "name": "abc",
        "did_finder": "user",
        "n_files": 1,
        "size": 10,
        "events": 20,
        "last_used": "2026-05-15T12:00:00.000000Z",
        "last_updated": "2026-05-15T12:00:00.000000Z",
        "lookup_status": "complete",
        "is_stale": False,
    }
    assert isinstance(files, list)
    assert [file["adler32"] for file in files] == [None, "0"]
    assert files[0]["paths"] == "/data/a.root,root://h//a.root"


def test_a_dataset_shows_no_credentials_of_its_files() -> None:
    file = replace(
        FILE, paths=("https://me:s3cret@h/a.root?token=s3cret", "root://me@h//a.root?authz=s3cret")
    )
    (shown,) = DatasetDetails.from_files(DATASET, [file]).files
    assert shown.paths == "https://h/a.root?…,root://h//a.root?…"


def test_capabilities_are_what_the_client_can_parse() -> None:
    assert "poll_local_transformation_results" in CAPABILITIES
    limits = [name.removeprefix("long_sample_titles_") for name in CAPABILITIES if name.startswith("long_")]
    assert [int(limit) for limit in limits] == [10_240]


MINIMAL = {"selection": "[]", "codegen": "uproot-raw", "file-list": ["/a.root"]}


def parse(**changes: object) -> object:
    body = {**MINIMAL, **{key.replace("_", "-"): value for key, value in changes.items()}}
    return TransformSubmission.parse(json.dumps({k: v for k, v in body.items() if v is not ...}).encode())


def test_submission_as_client_33_sends_it() -> None:
    body = {
        "title": "t",
        "did": "rucio://scope:name?files=3",
        "selection": "(call EventDataset)",
        "codegen": "uproot",
        "result-destination": "object-store",
        "result-format": "root-rntuple",
    }
    submission = TransformSubmission.parse(json.dumps(body).encode())
    assert submission.did == "rucio://scope:name?files=3"
    assert submission.files is None
    assert submission.result_format is ResultFormat.ROOT_RNTUPLE
    assert submission.title == "t"


def test_submission_as_client_26_sends_it() -> None:
    body = {**MINIMAL, "chunk-size": "1000", "workers": "20", "result-format": "root-file", "image": "x:y"}
    submission = TransformSubmission.parse(json.dumps(body).encode())
    assert submission.files == ("/a.root",)
    assert submission.result_format is ResultFormat.ROOT_FILE


def test_unknown_keys_and_nulls_are_ignored() -> None:
    submission = TransformSubmission.parse(
        json.dumps({**MINIMAL, "did": None, "title": None, "client-version": "3.4", "x": {"y": []}}).encode()
    )
    assert submission.result_format is ResultFormat.PARQUET


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"file_list": ...}, "exactly one of 'did' and 'file-list'"),
        ({"file_list": []}, "exactly one"),
        ({"did": "rucio://a:b"}, "exactly one"),
        ({"did": "", "file_list": ...}, "exactly one"),
        ({"file_list": "/a.root"}, "file-list"),
        ({"file_list": [1]}, "file-list.0"),
        ({"file_list": ["a\0b"]}, "NUL"),
        ({"selection": ...}, "selection"),
        ({"selection": ""}, "selection"),
        ({"selection": None}, "selection"),
        ({"selection": ["x"]}, "selection"),
        ({"codegen": ...}, "codegen"),
        ({"title": 5}, "title"),
        ({"title": "a\0"}, "NUL"),
        ({"result_format": "csv"}, "allowed: parquet, root-file, root-rntuple, arrow, hdf5"),
        ({"compression": 3}, "compression"),
        ({"use_result_cache": 1}, "use-result-cache: Input should be a valid boolean"),
        ({"compression": ""}, "not offered for parquet"),
        ({"compression": "lzma"}, "allowed: zstd \\(zstd:1 to zstd:12\\), lz4, snappy"),
        ({"compression": "zstd", "result_format": "hdf5"}, "not offered for hdf5; allowed: gzip"),
        ({"result_destination": "volume"}, "allowed: object-store"),
    ],
)
def test_wrong_submission_is_refused_naming_the_key(changes: dict[str, object], part: str) -> None:
    with pytest.raises(InvalidRequest, match=part):
        parse(**changes)


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"[]", b'"text"', b"null", b"[" * 100_000, b'{"title": "\xff"}', b'{"a": NaN}']
)
def test_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        TransformSubmission.parse(body)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_no_value_of_any_key_is_a_defect(value: object) -> None:
    for key in ("selection", "codegen", "did", "file_list", "title", "result_format", "tree_name"):
        with contextlib.suppress(InvalidRequest):
            parse(**{key: value})


VALIDATE = """
import json, sys
from servicex.models import CachedDataset, ServiceXInfo, TransformStatus
bodies = json.load(sys.stdin)
for body in bodies["statuses"]:
    TransformStatus(**body)
CachedDataset(**bodies["dataset"])
ServiceXInfo(**bodies["info"])
"""


def test_official_client_accepts_every_shape() -> None:
    if importlib.util.find_spec("servicex") is None:
        message = "the official client is not installed; `make env` does it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    states = [replace(REQUEST, state=state, failure_info="why") for state in RequestState]
    formats = [replace(REQUEST, result_format=kind) for kind in CLIENT_FORMATS]
    empty = replace(REQUEST, counts=FileCounts(), title=None, finish_time=NOON)
    bodies = {
        "statuses": [*map(status, (*states, *formats, empty)), listed(), listed(empty)],
        "dataset": wire(DatasetDetails.from_files(DATASET, [FILE])),
        "info": wire(Info(app_version="1", code_gen_image={"uproot": "x"}, capabilities=list(CAPABILITIES))),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", VALIDATE],
        input=json.dumps(bodies),
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_details_add_the_outcomes_and_what_was_counted() -> None:
    progress = Progress.from_request(REQUEST, None)
    tally = Tally(
        bytes_decompressed=7,
        seconds=StageSeconds(read=0.5, write=0.25),
        cut_flow=(CutStep("all", 10, "Events"), CutStep("x[0] > 1", 4, "Events")),
        sums_of_weights=(WeightSum("genWeight", 10.5, math.nan, "Events"),),
    )
    answer = wire(DetailedProgress.from_results(progress, [replace(RESULT, tally=tally), FAILURE]))
    counted = {
        "bytes-decompressed": 7,
        "seconds-by-stage": {"read": 0.5, "decompress": 0.0, "filter": 0.0, "encode": 0.0, "write": 0.25},
        "cut-flow": [
            {"table": "Events", "cut": "all", "rows": 10},
            {"table": "Events", "cut": "x[0] > 1", "rows": 4},
        ],
        "sums-of-weights": [{"table": "Events", "branch": "genWeight", "before": 10.5, "after": None}],
    }
    details = answer.pop("details")
    assert answer == wire(progress) | counted
    assert isinstance(details, list)
    assert details[0] == wire(FileOutcome.from_result(RESULT)) | counted
    assert details[1]["cut-flow"] == []
    assert details[1]["bytes-decompressed"] == 0
