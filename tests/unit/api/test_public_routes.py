"""The public routes, as the official client uses them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from edge import BASE_URL, CORRUPT, RESULT, Edge, open_edge
from servicex_server.model.compression import Compression
from servicex_server.model.unit import TransformUnit, Unit
from servicex_server.service.limits import Limits

UNKNOWN = "9f1b2c3d-0000-4000-8000-0123456789ab"
SHOWN_CORRUPT = CORRUPT.replace("[", "(").replace("]", ")")


async def test_info_names_code_generators_and_capabilities(edge: Edge) -> None:
    answer = await edge.http().get("/servicex")
    assert answer.status_code == 200
    info = answer.json()
    assert info["app-version"] == "1.2.3"
    assert {"uproot", "uproot-raw"} <= info["code-gen-image"].keys()
    assert all(isinstance(text, str) for text in info["code-gen-image"].values())
    assert info["capabilities"] == ["poll_local_transformation_results", "long_sample_titles_10240"]


async def test_a_submit_is_documented_as_what_it_is(edge: Edge) -> None:
    document = (await edge.http().get("/openapi.json")).json()
    submit = document["paths"]["/servicex/transformation"]["post"]
    assert submit["security"] == document["paths"]["/servicex/transformation"]["get"]["security"]
    assert "selection" in submit["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert submit["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Submitted")
    answer = await edge.http(None).post("/servicex/transformation", content="no JSON at all")
    assert answer.status_code == 401, "who may not submit is told so before what is wrong"


async def test_refreshed_token_opens_the_api(edge: Edge) -> None:
    answer = await edge.http("ann").post("/token/refresh")
    assert answer.status_code == 200
    token = answer.json()["access_token"]
    parts = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    assert isinstance(claims["exp"], int)
    answer = await edge.http(None, Authorization=f"Bearer {token}").get("/servicex")
    assert answer.status_code == 200


async def test_open_server_still_issues_decodable_tokens(tmp_path: Path, blank_database: Path) -> None:
    async with open_edge(tmp_path, blank_database, auth_enabled=False) as edge:
        for headers in ({}, {"Authorization": "Bearer whatever"}):
            answer = await edge.http(None, **headers).post("/token/refresh")
            assert answer.status_code == 200
            assert answer.json()["access_token"].count(".") == 2
        assert (await edge.http(None).get("/servicex/transformation")).json() == {"requests": []}
        assert "token" not in (await edge.http(None).get("/.servicex")).text


async def test_finished_request_has_its_results(edge: Edge) -> None:
    request_id = await edge.submit("a.root", "broken.root", "c.root")
    status = await edge.finish(request_id)
    assert status["status"] == "Complete"
    assert (status["files"], status["files-completed"], status["files-failed"]) == (3, 2, 1)
    assert status["files-remaining"] == 0
    answer = await edge.http().get(f"/servicex/transformation/{request_id}/results")
    assert answer.status_code == 200
    results = answer.json()["results"]
    good = [result for result in results if result["transform_status"] == "success"]
    bad = [result for result in results if result["transform_status"] != "success"]
    assert len({result["s3-object-name"] for result in good}) == status["files-completed"]
    assert all(result["total-bytes"] == len(RESULT) for result in good)
    assert [result["reason"] for result in bad] == [SHOWN_CORRUPT]


async def test_results_later_than_a_time_are_never_too_few(edge: Edge) -> None:
    request_id = await edge.submit("a.root", "b.root")
    await edge.finish(request_id)

    async def names(later_than: str) -> set[str]:
        url = f"/servicex/transformation/{request_id}/results"
        answer = await edge.http().get(url, params={"later_than": later_than})
        assert answer.status_code == 200, answer.text
        return {result["s3-object-name"] for result in answer.json()["results"]}

    everything = await names("")
    assert len(everything) == 2
    assert await names("0001-01-01T00:00:00+00:00") == everything
    assert await names("0001-01-01T00:00:00+14:00") == everything
    assert await names("1999-01-01T00:00:00Z") == everything
    newest = (await edge.http().get(f"/servicex/transformation/{request_id}/results")).json()["results"][-1]
    assert newest["s3-object-name"] in await names(newest["created_at"])
    assert newest["s3-object-name"] in await names(newest["created_at"] + "+00:00")
    assert await names("9999-12-31T23:59:59-14:00") in (set(), everything)
    assert await names("2999-01-01T00:00:00+00:00") == set()
    raw = httpx.URL(
        f"{BASE_URL}/servicex/transformation/{request_id}/results?later_than=2999-01-01T00:00:00+00:00"
    )
    assert (await edge.http().get(raw)).json() == {"results": []}


async def test_time_that_is_none_is_refused(edge: Edge) -> None:
    request_id = await edge.submit()
    url = f"/servicex/transformation/{request_id}/results?later_than=yesterday"
    answer = await edge.http().get(url)
    assert answer.status_code == 400
    assert "yesterday" in answer.json()["message"]


async def test_failed_files_are_tried_again(edge: Edge) -> None:
    request_id = await edge.submit("a.root", "broken.root", "broken-too.root")
    url = f"/servicex/transformation/{request_id}"
    assert (await edge.http().post(f"{url}/retry")).status_code == 400, "it has not ended"
    await edge.finish(request_id)
    kept = (await edge.http().get(f"{url}/results")).json()["results"][0]
    answer = await edge.http().post(f"{url}/retry")
    assert (answer.status_code, answer.json()) == (
        200,
        {"message": f"transformation request {request_id} runs again for 2 files"},
    )
    status = await edge.finish(request_id)
    assert (status["status"], status["files-completed"], status["files-failed"]) == ("Complete", 1, 2)
    assert kept in (await edge.http().get(f"{url}/results")).json()["results"]


async def test_only_a_request_with_failed_files_is_tried_again_and_by_its_owner(edge: Edge) -> None:
    request_id = await edge.submit("a.root")
    await edge.finish(request_id)
    url = f"/servicex/transformation/{request_id}/retry"
    answer = await edge.http().post(url)
    assert answer.status_code == 400
    assert "nothing to retry" in answer.json()["message"]
    assert (await edge.http("bob").post(url)).status_code == 403
    assert (await edge.http(None).post(url)).status_code == 401
    assert (await edge.http().post(f"/servicex/transformation/{UNKNOWN}/retry")).status_code == 404


async def test_request_may_be_named_by_its_number(edge: Edge) -> None:
    request_id = await edge.submit()
    await edge.finish(request_id)
    answer = await edge.http().get("/servicex/transformation/1")
    assert answer.json()["request_id"] == request_id


async def test_list_shows_own_requests_without_keys(edge: Edge) -> None:
    mine = await edge.submit(user="ann")
    await edge.submit(user="bob")
    listed = (await edge.http("ann").get("/servicex/transformation")).json()["requests"]
    assert [request["request_id"] for request in listed] == [mine]
    assert not any(key.startswith("minio") for key in listed[0])
    assert len((await edge.http("boss").get("/servicex/transformation")).json()["requests"]) == 2
    of_bob = (await edge.http("boss").get("/servicex/transformation?submitted_by=bob")).json()["requests"]
    assert len(of_bob) == 1


@pytest.mark.parametrize(("kind", "extension"), [("arrow", "arrow"), ("hdf5", "h5")])
async def test_formats_that_clients_do_not_know_work_but_are_not_listed(
    edge: Edge, kind: str, extension: str
) -> None:
    request_id = await edge.submit("a.root", **{"result-format": kind})
    listed = await edge.submit("a.root")
    status = await edge.finish(request_id)
    assert (status["result-format"], status["status"]) == (kind, "Complete")
    for user in ("ann", "boss"):
        requests = (await edge.http(user).get("/servicex/transformation")).json()["requests"]
        assert [request["request_id"] for request in requests] == [listed]
    url = f"/servicex/transformation/{request_id}"
    (result,) = (await edge.http().get(f"{url}/results")).json()["results"]
    assert result["s3-object-name"].endswith(f"a.root.{extension}")
    assert (await edge.http().get(f"{url}/status")).json()["files-completed"] == 1
    assert (await edge.http().delete(url)).status_code == 200
    assert (await edge.http().get(url)).status_code == 404


async def test_compression_goes_to_the_worker(edge: Edge) -> None:
    await edge.submit("a.root", compression="zstd:7")
    await edge.submit("b.root")
    units: list[Unit] = []
    async with edge.queue.connect(2) as source:
        async for delivery in source.units():
            units.append(delivery.unit)
            if len(units) == 2:
                break
    found = {unit.compression for unit in units if isinstance(unit, TransformUnit)}
    assert found == {Compression("zstd", 7), None}


@pytest.mark.parametrize("suffix", ["", "/status", "/results", "/errors", "/cancel", "/deployment-status"])
async def test_foreign_request_is_refused(edge: Edge, suffix: str) -> None:
    request_id = await edge.submit(user="ann")
    answer = await edge.http("bob").get(f"/servicex/transformation/{request_id}{suffix}")
    assert answer.status_code == 403
    assert "secret" not in answer.text
    assert (await edge.http("bob").delete(f"/servicex/transformation/{request_id}")).status_code == 403


async def test_administrator_may_read_every_request(edge: Edge) -> None:
    request_id = await edge.submit(user="ann")
    await edge.finish(request_id)
    answer = await edge.http("boss").get(f"/servicex/transformation/{request_id}")
    assert answer.status_code == 200
    assert answer.json()["minio-secret-key"]


async def test_cancel_then_delete(edge: Edge) -> None:
    request_id = await edge.submit()
    url = f"/servicex/transformation/{request_id}"
    http = edge.http()
    early = await http.delete(url)
    assert (early.status_code, early.json().keys()) == (400, {"message"})
    canceled = await http.get(f"{url}/cancel")
    assert (canceled.status_code, canceled.json().keys()) == (200, {"message"})
    assert (await http.get(url)).json()["status"] == "Canceled"
    again = await http.get(f"{url}/cancel")
    assert (again.status_code, again.json().keys()) == (400, {"message"})
    deleted = await http.delete(url)
    assert (deleted.status_code, deleted.json().keys()) == (200, {"message"})
    assert (await http.get(url)).status_code == 404
    assert (await http.get("/servicex/transformation")).json() == {"requests": []}


async def test_progress_for_old_clients(edge: Edge) -> None:
    request_id = await edge.submit("a.root", "broken.root")
    await edge.finish(request_id)
    url = f"/servicex/transformation/{request_id}"
    progress = (await edge.http().get(f"{url}/status")).json()
    assert progress["request-id"] == request_id
    assert (progress["files-processed"], progress["files-skipped"], progress["files-remaining"]) == (1, 1, 0)
    assert progress["stats"]["total-bytes"] == len(RESULT)
    assert "details" not in progress
    for details in ("?details=1", "?details"):
        detailed = (await edge.http().get(f"{url}/status{details}")).json()
        assert len(detailed["details"]) == 2
        added = {"details", "bytes-decompressed", "seconds-by-stage", "cut-flow", "sums-of-weights"}
        assert detailed.keys() - progress.keys() == added
        assert [step["rows"] for step in detailed["cut-flow"]] == [100, 10]
        (good,) = [file for file in detailed["details"] if file["transform_status"] == "success"]
        assert good["cut-flow"] == [
            {"table": "Events", "cut": "all", "rows": 100},
            {"table": "Events", "cut": "any(Muon_pt > 20)", "rows": 10},
        ]
        assert good["sums-of-weights"] == [
            {"table": "Events", "branch": "genWeight", "before": 99.5, "after": None}
        ]
        assert good["bytes-decompressed"] == 5000
        assert good["seconds-by-stage"]["decompress"] == 0.125
    results = (await edge.http().get(f"{url}/results")).json()["results"]
    assert not any("cut-flow" in result for result in results), "what every poll asks for stays small"
    errors = (await edge.http().get(f"{url}/errors")).json()["errors"]
    assert [error["info"] for error in errors] == [SHOWN_CORRUPT]
    assert errors[0]["file"].endswith("broken.root")


async def test_datasets_are_listed_shown_and_deleted_once(edge: Edge) -> None:
    await edge.submit("a.root", "b.root")
    http = edge.http("boss")
    number = (await http.get("/servicex/datasets")).json()["datasets"][0]["id"]
    one = (await http.get(f"/servicex/datasets/{number}")).json()
    assert one["did_finder"] == "user"
    assert len(one["files"]) == one["n_files"] == 2
    assert len((await http.get("/servicex/datasets?did-finder=user")).json()["datasets"]) == 1
    assert (await http.get("/servicex/datasets?did-finder=rucio")).json() == {"datasets": []}
    deleted = await http.delete(f"/servicex/datasets/{number}")
    assert (deleted.status_code, deleted.json()) == (200, {"dataset-id": number, "stale": True})
    assert (await http.delete(f"/servicex/datasets/{number}")).status_code == 400
    assert (await http.get("/servicex/datasets")).json() == {"datasets": []}
    stale = (await http.get("/servicex/datasets?show-deleted=true")).json()["datasets"]
    assert [dataset["is_stale"] for dataset in stale] == [True]


@pytest.mark.parametrize("number", ["99", "0", "x", "9" * 40, "-1", "1.5"])
async def test_unknown_dataset_is_404(edge: Edge, number: str) -> None:
    for method in ("GET", "DELETE"):
        answer = await edge.http().request(method, f"/servicex/datasets/{number}")
        assert answer.status_code == 404
        assert answer.json().keys() == {"message"}


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"codegen": "nonesuch"}, "nonesuch"),
        ({"result-format": "csv"}, "arrow, hdf5"),
        ({"compression": "zstd:99"}, "'zstd:99' is not offered for parquet; allowed: zstd (zstd:1 to"),
        ({"selection": "not json"}, ""),
        ({"did": "rucio://a:b"}, "exactly one"),
        ({"file-list": ["/etc/passwd"]}, ""),
    ],
)
async def test_wrong_submission_is_a_400_with_a_message(
    edge: Edge, changes: dict[str, Any], part: str
) -> None:
    answer = await edge.http().post("/servicex/transformation", json=edge.submission(**changes))
    assert answer.status_code == 400, answer.text
    assert part in answer.json()["message"]
    assert (await edge.http().get("/servicex/transformation")).json() == {"requests": []}


async def test_body_that_is_no_json_is_a_400(edge: Edge) -> None:
    for content in (b"", b"{", b"selection=x"):
        answer = await edge.http().post("/servicex/transformation", content=content)
        assert answer.status_code == 400
        assert answer.json().keys() == {"message"}


async def test_large_body_is_a_413(tmp_path: Path, blank_database: Path) -> None:
    async with open_edge(tmp_path, blank_database, max_body_bytes=2048) as edge:
        body = edge.submission(selection="x" * 4096)
        answer = await edge.http().post("/servicex/transformation", json=body)
        assert answer.status_code == 413
        assert answer.json().keys() == {"message"}


async def test_client_config_has_a_token_only_for_its_holder(edge: Edge) -> None:
    anonymous = await edge.http(None).get("/.servicex")
    assert anonymous.status_code == 200
    assert "attachment" in anonymous.headers["Content-Disposition"]
    content = yaml.safe_load(anonymous.text)
    assert content["api_endpoints"] == [{"endpoint": BASE_URL, "name": "servicex"}]
    assert content["default_endpoint"] == "servicex"
    own = yaml.safe_load((await edge.http("ann").get("/.servicex")).text)
    assert own["api_endpoints"][0]["token"] == edge.tokens["ann"]
    access = (await edge.http("ann").post("/token/refresh")).json()["access_token"]
    assert "token:" not in (await edge.http(None, Authorization=f"Bearer {access}").get("/.servicex")).text


async def test_health_and_readiness_need_no_token(edge: Edge) -> None:
    assert (await edge.http(None).get("/healthz")).status_code == 200
    assert (await edge.http(None).get("/readyz")).status_code == 200


async def test_readiness_tells_what_is_missing(tmp_path: Path, blank_database: Path) -> None:
    async def missing() -> tuple[str, ...]:
        return ("no worker is running", "the store is full")

    async with open_edge(tmp_path, blank_database, ready=missing) as edge:
        answer = await edge.http(None).get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["message"] == "not ready: no worker is running; the store is full"
        assert (await edge.http(None).get("/healthz")).status_code == 200


async def test_slashes_cost_no_redirect(edge: Edge) -> None:
    request_id = await edge.submit()
    await edge.finish(request_id)
    for path in (
        "//servicex",
        "/servicex/",
        "//servicex//transformation/",
        f"/servicex/transformation//{request_id}",
        f"///servicex/transformation/{request_id}/results/",
        "/servicex/datasets/",
    ):
        answer = await edge.http().get(f"{BASE_URL}{path}")
        assert answer.status_code == 200, path
    assert (await edge.http().post(f"{BASE_URL}//token/refresh")).status_code == 200


async def test_head_answers_as_get_but_cancels_nothing(edge: Edge) -> None:
    head = await edge.http().head("/servicex")
    assert (head.status_code, head.content) == (200, b"")
    request_id = await edge.submit()
    url = f"/servicex/transformation/{request_id}"
    assert (await edge.http().head(f"{url}/cancel")).status_code == 405
    assert (await edge.http().get("/servicex/transformation")).json()["requests"][0]["status"] == "Running"


async def test_bucket_paths_reach_the_s3_endpoint_untouched(edge: Edge) -> None:
    request_id = await edge.submit()
    await edge.finish(request_id)
    for path in (f"/{request_id}", f"/{request_id}/", f"/{request_id}//a//b", f"/{UNKNOWN}/x"):
        answer = await edge.http(None).get(f"{BASE_URL}{path}")
        assert answer.status_code == 403
        assert "<Code>" in answer.text


async def test_start_page_is_a_list_of_buckets_for_signed_requests(edge: Edge) -> None:
    signature = (
        "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    )
    answer = await edge.http(None, Authorization=signature).get("/")
    assert answer.status_code == 403
    assert "<Code>" in answer.text


@pytest.mark.parametrize(
    ("config", "headers", "endpoint", "is_secured"),
    [
        ({}, {}, "127.0.0.1:5000", False),
        ({}, {"Host": "localhost:8000"}, "localhost:8000", False),
        ({}, {"X-Forwarded-Proto": "https"}, "127.0.0.1:5000", False),
        ({"public_url": "https://sx.example.org"}, {}, "sx.example.org", True),
        (
            {"public_url": "http://sx.example.org:8080/"},
            {"Host": "sx.example.org:8080"},
            "sx.example.org:8080",
            False,
        ),
    ],
)
async def test_results_are_read_where_the_client_sees_the_server(
    tmp_path: Path,
    blank_database: Path,
    config: dict[str, Any],
    headers: dict[str, str],
    endpoint: str,
    is_secured: bool,
) -> None:
    async with open_edge(tmp_path, blank_database, hold_s=0, **config) as edge:
        request_id = await edge.submit()
        status = (await edge.http("ann", **headers).get(f"/servicex/transformation/{request_id}")).json()
        assert (status["minio-endpoint"], status["minio-secured"]) == (endpoint, is_secured)
        scheme = "https" if is_secured else "http"
        page = f"{scheme}://{endpoint}/transformation-request/{request_id}/results?status=failure&_g=()"
        assert status["log-url"] == page


@pytest.mark.parametrize(("value", "n_shown"), [("true", 1), ("false", 1), ("0", 1), ("x", 1), ("", 0)])
async def test_stale_datasets_are_shown_for_any_value(edge: Edge, value: str, n_shown: int) -> None:
    await edge.submit()
    http = edge.http()
    (dataset,) = (await http.get("/servicex/datasets")).json()["datasets"]
    assert (await http.delete(f"/servicex/datasets/{dataset['id']}")).status_code == 200
    answer = await http.get("/servicex/datasets", params={"show-deleted": value})
    assert len(answer.json()["datasets"]) == n_shown


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
async def test_nothing_internal_is_reached_from_outside(edge: Edge, method: str) -> None:
    request_id = await edge.submit()
    for what in (f"{request_id}/file-complete", f"{request_id}/status", "1/files", "1/complete", "1/error"):
        answer = await edge.http("boss").request(
            method, f"/servicex/internal/transformation/{what}", json={"severity": "fatal"}
        )
        assert answer.status_code == 404, what
        assert isinstance(answer.json()["message"], str)
    (status,) = (await edge.http().get("/servicex/transformation")).json()["requests"]
    assert (status["status"], status["files-completed"], status["files-failed"]) == ("Running", 0, 0)


async def test_openapi_describes_every_public_route(edge: Edge) -> None:
    answer = await edge.http(None).get("/openapi.json")
    assert answer.status_code == 200
    described = {
        f"{method.upper()} {path}" for path, methods in answer.json()["paths"].items() for method in methods
    }
    assert described == {
        "POST /token/refresh",
        "GET /servicex",
        "GET /.servicex",
        "GET /healthz",
        "GET /readyz",
        "POST /servicex/transformation",
        "GET /servicex/transformation",
        "GET /servicex/transformation/{ref}",
        "DELETE /servicex/transformation/{ref}",
        "GET /servicex/transformation/{ref}/cancel",
        "POST /servicex/transformation/{ref}/retry",
        "GET /servicex/transformation/{ref}/results",
        "GET /servicex/transformation/{ref}/status",
        "GET /servicex/transformation/{ref}/errors",
        "GET /servicex/transformation/{ref}/deployment-status",
        "GET /servicex/transformation/{ref}/events",
        "GET /servicex/transformation/{ref}/provenance",
        "GET /servicex/datasets",
        "GET /servicex/datasets/{number}",
        "DELETE /servicex/datasets/{number}",
    }


async def test_results_of_earlier_requests_are_told(edge: Edge) -> None:
    request_id = await edge.submit("a.root", "earlier.root")
    status = await edge.finish(request_id)
    assert status["files-cached"] == 1
    base = f"/servicex/transformation/{request_id}"
    results = (await edge.http().get(f"{base}/results")).json()["results"]
    assert {Path(result["file-path"]).name: result["cached"] for result in results} == {
        "a.root": False,
        "earlier.root": True,
    }
    progress = (await edge.http().get(f"{base}/status", params={"details": "1"})).json()
    assert progress["files-cached"] == 1
    assert sorted(detail["cached"] for detail in progress["details"]) == [False, True]


@pytest.mark.parametrize(("wanted", "uses_cache"), [({}, True), ({"use-result-cache": False}, False)])
async def test_a_submit_says_whether_earlier_results_will_do(
    edge: Edge, wanted: dict[str, Any], uses_cache: bool
) -> None:
    await edge.submit("a.root", **wanted)
    async with edge.queue.connect(1) as source:
        delivery = await anext(aiter(source.units()))
        assert isinstance(delivery.unit, TransformUnit)
        assert (delivery.unit.uses_cache, delivery.unit.owner) == (uses_cache, "ann")


async def test_too_much_at_once_is_refused_as_the_client_shows_it(
    tmp_path: Path, blank_database: Path
) -> None:
    limits = Limits(preflight_files=0, user_requests=1)
    async with open_edge(tmp_path, blank_database, limits=limits) as edge:
        await edge.submit()
        answer = await edge.http().post("/servicex/transformation", json=edge.submission())
        assert answer.status_code == 429
        assert answer.json().keys() == {"message"}
        assert answer.json()["message"].startswith("you have 1 unfinished requests, and this server takes at")
        assert "cancel some" in answer.json()["message"]
        await edge.submit(user="bob")
