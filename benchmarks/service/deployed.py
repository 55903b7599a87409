"""A deployment on these cores: two apps, PostgreSQL that waits for its disk, RabbitMQ, SeaweedFS."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.service import noop
from benchmarks.service.machine import cpu_s, timed
from benchmarks.service.report import Row
from benchmarks.service.scale import Scale
from benchmarks.service.session import Session, body, signed_in
from deployment import Deployment, a_deployment
from postgres_server import require_postgres, running_postgres
from rabbitmq_server import RabbitServer, require_rabbitmq
from seaweed_server import ACCESS_KEY, BUCKET, SECRET_KEY, require_seaweed, running_seaweed
from toy_sample import generate

_PART = "production set-up"
_APPS = ("app1", "app2")


@contextmanager
def running_services(folder: Path, inputs: Path) -> Iterator[Deployment]:
    """Servers of our own, and a deployment over them without processes yet."""
    for require in (require_postgres, require_rabbitmq, require_seaweed):
        require()
    with ExitStack() as stack:
        database = stack.enter_context(running_postgres(durable=True))
        broker = stack.enter_context(RabbitServer())
        bucket = stack.enter_context(running_seaweed())
        store = {
            "store_url": f"s3://{BUCKET}/bench",
            "store_endpoint": bucket.endpoint,
            "store_access_key": ACCESS_KEY,
            "store_secret_key": SECRET_KEY,
        }
        yield stack.enter_context(
            a_deployment(
                folder, database_url=database.create(), queue_url=broker.url, store=store, inputs=inputs
            )
        )


def measure_deployed(scale: Scale) -> Iterator[Row]:
    """CPU time of both apps together, so that it does not matter who leads; then one small file."""
    inputs, folder = scale.folder / "deployed_inputs", Path(tempfile.mkdtemp(dir=scale.folder))
    inputs.mkdir(parents=True)
    with running_services(folder, inputs) as deployment:
        for name in _APPS:
            deployment.add_app(name, preflight_files="0")
        urls = [deployment.url_of(name) for name in _APPS]
        pids = [deployment.roles[name].pid for name in _APPS]
        with signed_in(urls, _new_user(deployment)) as user:
            yield from _measure_costs(scale, deployment, user, pids, inputs)
        for name in _APPS:
            deployment.roles[name].stop()
        others = [f"{name} with preflight" for name in _APPS]
        for name in others:
            deployment.add_app(name)
        deployment.add_worker("worker", slots=2)
        with signed_in([deployment.url_of(name) for name in others], _new_user(deployment)) as user:
            yield _measure_small(scale, user, inputs)


def _measure_costs(
    scale: Scale, deployment: Deployment, user: Session, pids: list[int], inputs: Path
) -> Iterator[Row]:
    n_submits = max(20, scale.submits // 3)
    bodies = [body([inputs / f"file{n}.root"], "submit") for n in range(20)]
    with _spent(pids) as spent_s:
        seen = user.post_many(bodies, n_submits)
    note = f"{seen.per_s:.0f} /s, p50 {1e3 * seen.p50_s:.0f}, p99 {1e3 * seen.p99_s:.0f} ms; no worker yet"
    cost = 1e3 * spent_s() / len(seen.answers)
    yield Row(_PART, "CPU per submit", cost, "ms", 4, "less", note)
    costs, rates, requests = [], [], []
    n_files = scale.look_up // 4
    for round_ in range(3):
        text = body([inputs / f"round{round_}" / f"file{n}.root" for n in range(n_files)], "look-up")
        with _spent(pids) as spent_s, timed() as passed_s:
            requests.append(user.submit(text))
        costs.append(1e3 * spent_s() / n_files)
        rates.append(n_files / passed_s())
    note = f"lists of {n_files:,}; {statistics.median(rates):,.0f} files/s"
    yield Row(_PART, "CPU per file recorded", min(costs), "ms", 0.15, "less", note)
    for request in requests[1:]:
        user.cancel(request)
    worker = deployment.add("noop", "worker", "--workers", "8", module=noop.MODULE)
    with _spent(pids) as spent_s, timed() as passed_s:
        worker.wait_for("worker.ready")
        for answer in seen.answers[-1:]:
            user.wait(_id_of(answer), pause_s=0.2)
        user.wait(requests[0], pause_s=0.2)
    n_reports = n_files + len(seen.answers)
    note = f"with dispatch and polls; {n_reports / passed_s():.0f} files/s, which the store's puts bound"
    yield Row(_PART, "CPU per report", 1e3 * spent_s() / n_reports, "ms", 0.4, "less", note)
    worker.stop()


def _measure_small(scale: Scale, user: Session, inputs: Path) -> Row:
    files = generate(inputs, n_files=scale.latencies + 1, n_events=1000 * (scale.latencies + 1))
    seconds = [user.seconds_of(body([file], "small")) for file in files][1:]
    note = f"with preflight; slowest {max(seconds):.3f} s of {len(seconds)}"
    name = "one small file, submit to Complete"
    return Row(_PART, name, statistics.median(seconds), "s", 0.15, "less", note)


@contextmanager
def _spent(pids: list[int]) -> Iterator[Callable[[], float]]:
    """Tells the CPU seconds of the apps since the context began."""
    before_s = cpu_s(pids)
    yield lambda: cpu_s(pids) - before_s


def _new_user(deployment: Deployment) -> str:
    return deployment.run("token", "create", "marie").split()[-1]


def _id_of(answer: str) -> str:
    return str(json.loads(answer)["request_id"])
