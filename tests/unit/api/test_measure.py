"""What is counted at the edge and of reports: by kind, never by name."""

from __future__ import annotations

from edge import Edge
from servicex_server.telemetry import metrics


def counts(name: str) -> dict[tuple[str, ...], float]:
    """Values of a metric's samples by their labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in metrics.REGISTRY.collect()
        for sample in family.samples
        if sample.name == name
    }


def gained(name: str, before: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    now = counts(name)
    return {key: value - before.get(key, 0) for key, value in now.items() if value != before.get(key, 0)}


async def test_requests_are_counted_by_the_template_of_their_route(edge: Edge) -> None:
    name = "servicex_http_request_seconds_count"
    before = counts(name)
    http = edge.http()
    request_id = await edge.submit()
    await edge.finish(request_id)
    await http.get(f"/servicex//transformation/{request_id}/results/")
    await http.get(f"/servicex/transformation/{request_id}/events")
    await http.head("/healthz")
    await http.get(f"/{request_id}/some/key")
    await http.get(f"/no/such/page/{request_id}")
    await http.request("BREW", f"/servicex/{request_id}")
    await edge.http(None, Host="evil.example").get("/servicex")
    await edge.http(None).get(f"/servicex/transformation/{request_id}/status")
    found = gained(name, before)
    prefix = "/servicex/transformation"
    assert found.pop((f"{prefix}/{{ref}}", "GET", "200")) >= 1
    assert found == {
        (prefix, "POST", "200"): 1,
        (f"{prefix}/{{ref}}/results", "GET", "200"): 1,
        (f"{prefix}/{{ref}}/events", "GET", "200"): 1,
        ("/healthz", "HEAD", "200"): 1,
        ("/{bucket}", "GET", "403"): 1,
        ("none", "GET", "404"): 1,
        ("none", "other", "404"): 1,
        ("none", "GET", "403"): 1,
        (f"{prefix}/{{ref}}/status", "GET", "401"): 1,
    }


async def test_what_becomes_of_requests_and_files_is_counted(edge: Edge) -> None:
    names = (
        "servicex_files_ended_total",
        "servicex_attempts_failed_total",
        "servicex_request_transitions_total",
        "servicex_reports_recorded_total",
        "servicex_events_processed_total",
        "servicex_input_read_bytes_total",
        "servicex_results_written_bytes_total",
        "servicex_rows_written_total",
    )
    before = {name: counts(name) for name in names}
    request_id = await edge.submit("a.root", "b.root", "broken.root")
    await edge.finish(request_id)
    assert [gained(name, before[name]) for name in names] == [
        {("delivered", ""): 2, ("failed", "corrupt"): 1},
        {("corrupt",): 1},
        {("Submitted",): 1, ("Running",): 1, ("Complete",): 1},
        {("done",): 2, ("failed",): 1},
        {(): 200},
        {(): 2000},
        {(): 36},
        {(): 20},
    ]
    text = metrics.render().decode()
    for secret in (request_id, "ann", "broken.root", str(edge.folder)):
        assert f'"{secret}' not in text
        assert request_id not in text
