"""Two apps and a worker on PostgreSQL, RabbitMQ and an S3 server, as an administrator runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from chaos.inputs import Sums, select, write_file
from chaos.pace import PacedFiles
from deployment import Deployment, Role, a_deployment, submit
from gated_files import GatedFiles
from postgres_server import PostgresServer, running_postgres
from rabbitmq_server import RabbitServer, free_ports, running_rabbitmq
from seaweed_server import ACCESS_KEY, BUCKET, SECRET_KEY, SeaweedServer
from servicex_server.db import schema

DRIVER = Path(__file__).parents[1] / "interop" / "drivers" / "client33.py"
TERMINAL = {"Complete", "Canceled", "Fatal", "Bad Dataset"}
N_FILES = 30
_questions = count(1)
"""Each submit has another, lest it gets the results of one before."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the tests of this module share.

    Attributes:
        good: what each file of `folder` has to give.
        paced: serves them, slowly.
    """

    deployment: Deployment
    postgres: PostgresServer
    token: str
    folder: Path
    good: dict[str, Sums]
    paced: PacedFiles

    @property
    def apps(self) -> tuple[str, str]:
        """The app that leads, and the other one."""
        url = self.deployment.settings["database_url"].rpartition("/")[2]
        end = time.monotonic() + 30
        while time.monotonic() < end:
            holder = self.postgres._run("SELECT holder FROM lease", url)
            for leader, follower in (("app1", "app2"), ("app2", "app1")):
                if holder and int(holder.split(":")[-2]) == self.deployment.roles[leader].pid:
                    return leader, follower
            time.sleep(0.05)
        message = "nobody leads"
        raise AssertionError(message)

    def ask(self, app: str, path: str, method: str = "GET") -> dict[str, Any]:
        answer = httpx.request(
            method,
            f"{self.deployment.url_of(app)}/servicex/transformation/{path}",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def submit(self, app: str, *paths: str | Path) -> str:
        files = [str(path) for path in paths]
        url = self.deployment.url_of(app)
        return submit(
            url,
            self.token,
            **{"file-list": files, "selection": select(next(_questions)), "codegen": "uproot-raw"},
        )

    def wait(self, app: str, request_id: str) -> tuple[str, int, int]:
        """State, delivered and failed files of the request at its end."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            status = self.ask(app, request_id)
            if status["status"] in TERMINAL:
                return status["status"], status["files-completed"], status["files-failed"]
            time.sleep(0.05)
        raise AssertionError(status)

    def delivered(self, app: str, request_id: str) -> Counter[str]:
        """How often each file is among the results."""
        results = self.ask(app, f"{request_id}/results")["results"]
        return Counter(
            Path(entry["file-path"]).name for entry in results if entry["transform_status"] == "success"
        )


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitServer]:
    with running_rabbitmq() as server:
        yield server


@pytest.fixture(scope="module")
def place(
    postgres: PostgresServer,
    broker: RabbitServer,
    seaweed: SeaweedServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("inputs")
    good = {
        f"f{number}.root": write_file(folder / f"f{number}.root", number, 50) for number in range(N_FILES)
    }
    store = {
        "store_url": f"s3://{BUCKET}/deployment-test",
        "store_endpoint": seaweed.endpoint,
        "store_access_key": ACCESS_KEY,
        "store_secret_key": SECRET_KEY,
    }
    with (
        PacedFiles(folder, most_s=0.2) as paced,
        a_deployment(
            tmp_path_factory.mktemp("deployment"),
            database_url=postgres.create(),
            queue_url=broker.url,
            store=store,
            inputs=folder,
            allowed_private_hosts="127.0.0.1",
        ) as deployment,
    ):
        for name, port in zip(("app1", "app2"), free_ports(2), strict=True):
            deployment.add(name, "app", "--port", str(port))
        deployment.add("worker1", "worker", "--workers", "2")
        token = deployment.run("token", "create", "marie").strip()
        for name in ("app1", "app2"):
            deployment.roles[name].wait_for("ServiceX server is ready")
        deployment.roles["worker1"].wait_for("worker.ready")
        yield Place(deployment, postgres, token, folder, good, paced)


def test_the_official_client_gets_equal_values_from_an_app_that_does_not_lead(
    place: Place, tmp_path: Path
) -> None:
    _, follower = place.apps
    endpoint = {"name": "deployed", "endpoint": place.deployment.url_of(follower), "token": place.token}
    config = tmp_path / "servicex.yaml"
    config.write_text(yaml.safe_dump({"api_endpoints": [endpoint], "default_endpoint": "deployed"}))
    names = ["f1.root", "f2.root", "f3.root"]
    sample = {
        "name": "three",
        "files": [str(place.folder / name) for name in names],
        "kind": "uproot-raw",
        "query": json.loads(select()),
    }
    delivery = {
        "cache": str(tmp_path / "cache"),
        "format": "parquet",
        "delivery": "LocalCache",
        "samples": [sample],
    }
    ran = subprocess.run(
        [sys.executable, str(DRIVER)],
        input=json.dumps({"config": str(config), "stages": [[delivery]]}),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": ""},
        check=True,
    )
    ((answer,),) = json.loads(ran.stdout)
    assert "raised" not in answer, ran.stderr
    got = [Sums.of_parquet(Path(path).read_bytes()) for path in answer["delivered"]["three"]]
    assert Counter(got) == Counter(place.good[name] for name in names)


def test_what_one_app_takes_the_other_one_knows(place: Place) -> None:
    leader, follower = place.apps
    for takes, tells in ((leader, follower), (follower, leader)):
        request_id = place.submit(takes, place.folder / "f4.root", place.folder / "f5.root")
        assert place.wait(tells, request_id) == ("Complete", 2, 0)
        assert place.delivered(tells, request_id) == {"f4.root": 1, "f5.root": 1}


def test_results_of_one_app_are_input_at_the_other_one(place: Place) -> None:
    leader, follower = place.apps
    names = ["f12.root", "f13.root"]
    files = [str(place.folder / name) for name in names]
    asked = {"selection": select(next(_questions)), "codegen": "uproot-raw"}
    url = place.deployment.url_of(leader)
    first = submit(url, place.token, **{"file-list": files, "result-format": "root-file", **asked})
    assert place.wait(follower, first) == ("Complete", 2, 0)
    url = place.deployment.url_of(follower)
    second = submit(url, place.token, **{"did": f"servicex://{first}", **asked})
    assert place.wait(leader, second) == ("Complete", 2, 0)
    entries = place.ask(leader, f"{second}/status")["stats"]["total-events"]
    assert entries == sum(place.good[name].rows for name in names) > 0
    stranger = place.deployment.run("token", "create", "stranger").strip()
    answer = httpx.post(
        f"{url}/servicex/transformation",
        json={
            "did": f"servicex://{first}",
            "result-format": "parquet",
            "result-destination": "object-store",
            **asked,
        },
        headers={"Authorization": f"Bearer {stranger}"},
        timeout=30,
    )
    assert (answer.status_code, "does not exist" in answer.text) == (400, True)


def test_a_cancel_at_the_app_that_does_not_lead_stops_the_work(place: Place) -> None:
    leader, follower = place.apps
    with GatedFiles(place.folder, held=r"f[67]\.root") as gated:
        held = [f"{gated.url}/f6.root", f"{gated.url}/f7.root"]
        # The first one lets the preflight through.
        request_id = place.submit(leader, place.folder / "f8.root", *held)
        gated.wait_for_readers(2)
        place.ask(follower, f"{request_id}/cancel")
        assert place.ask(leader, request_id)["status"] == "Canceled"
        # Both slots were taken by files that are still held back: only without them is there room.
        other = place.submit(follower, place.folder / "f9.root")
        assert place.wait(leader, other) == ("Complete", 1, 0)


def test_failed_files_are_tried_again_at_the_app_that_does_not_lead(place: Place) -> None:
    leader, follower = place.apps
    late = place.folder / "late.root"
    request_id = place.submit(leader, place.folder / "f10.root", late)
    assert place.wait(follower, request_id) == ("Complete", 1, 1)
    late.write_bytes((place.folder / "f11.root").read_bytes())
    place.ask(follower, f"{request_id}/retry", "POST")
    assert place.wait(leader, request_id) == ("Complete", 2, 0)
    assert place.delivered(follower, request_id) == {"f10.root": 1, "late.root": 1}


def test_a_rolling_restart_loses_and_repeats_nothing(place: Place) -> None:
    leader, follower = place.apps
    request_id = place.submit(follower, *(f"{place.paced.url}/{name}" for name in place.good))
    apps = threading.Thread(target=_restart_in_turn, args=(place, (leader, follower)))
    apps.start()
    second = place.deployment.add("worker2", "worker", "--workers", "2")
    second.wait_for("worker.ready")
    assert place.deployment.roles.pop("worker1").stop() == 0
    apps.join()
    assert place.wait(leader, request_id) == ("Complete", N_FILES, 0)
    assert place.delivered(follower, request_id) == Counter(list(place.good))


def _restart_in_turn(place: Place, names: tuple[str, ...]) -> None:
    for name in names:
        role = place.deployment.roles[name]
        times = role.text().count("ServiceX server is ready")
        assert role.stop() == 0, role.text()
        role.start()
        role.wait_for("ServiceX server is ready", times=times + 1)


def test_another_app_takes_over_from_a_leader_that_was_killed(place: Place) -> None:
    leader, follower = place.apps
    role = place.deployment.roles[leader]
    request_id = place.submit(follower, *(f"{place.paced.url}/{name}" for name in place.good))
    role.send(signal.SIGKILL)
    assert place.wait(follower, request_id) == ("Complete", N_FILES, 0)
    assert place.delivered(follower, request_id) == Counter(list(place.good))
    assert place.apps == (follower, leader)
    role.kill()
    times = role.text().count("ServiceX server is ready")
    role.start()
    role.wait_for("ServiceX server is ready", times=times + 1)


def refuse(folder: Path, **settings: str) -> str:
    """What an app says that does not start."""
    deployment = Deployment(folder, {"signing_secret": 32 * "s", **settings})
    role: Role = deployment.add("app", "app", "--port", "0")
    assert role.process is not None
    try:
        assert role.process.wait(30) == 1, role.text()
    finally:
        role.kill()
    return role.text()


@pytest.mark.parametrize("missing", ["database_url", "queue_url", "store_url"])
def test_an_app_says_what_is_not_configured(tmp_path: Path, missing: str) -> None:
    (tmp_path / "store").mkdir()
    settings = {
        "database_url": "postgresql://a:b@127.0.0.1:1/x",
        "queue_url": "amqp://a:b@127.0.0.1:1/",
        "store_url": str(tmp_path / "store"),
    }
    del settings[missing]
    assert f"needs SERVICEX_{missing.upper()}" in refuse(tmp_path, **settings)


def test_an_app_refuses_another_schema_and_a_broker_that_does_not_let_it_in(
    postgres: PostgresServer, broker: RabbitServer, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    store = str(tmp_path / "store")
    empty = postgres.create()
    wrong = broker.url.replace("pass%2Fword", "guessed-wrong")
    said = refuse(tmp_path, database_url=empty, queue_url=wrong, store_url=store)
    assert "the database has no schema yet; create it with `servicex-server db upgrade`" in said
    schema.upgrade(empty)
    postgres._run("UPDATE alembic_version SET version_num = '0002'", empty.rpartition("/")[2])
    said = refuse(tmp_path, database_url=empty, queue_url=wrong, store_url=store)
    assert f"the database's schema is at 0002, this version needs {schema.HEAD}" in said
    said = refuse(tmp_path, database_url=postgres.create(with_schema=True), queue_url=wrong, store_url=store)
    assert f"the broker at 127.0.0.1:{broker.port}" in said
    assert "refuses the user 'tester'" in said
    assert "guessed-wrong" not in said


def test_an_app_waits_for_a_database_that_is_started_after_it(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with running_postgres() as own:
        settings = {
            "database_url": own.create(with_schema=True),
            "queue_url": "amqp://a:b@127.0.0.1:1/",
            "store_url": str(tmp_path / "store"),
            "signing_secret": 32 * "s",
        }
        deployment = Deployment(tmp_path, settings)
        own.stop()
        try:
            app = deployment.add("app", "app", "--port", "0")
            app.wait_for("database.awaited: cannot reach the database")
            own.start()
            app.wait_for("ServiceX server is ready")
        finally:
            deployment.close()


def test_an_app_without_a_broker_says_so_and_keeps_what_it_is_told(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    (tmp_path / "store").mkdir()
    settings = {
        "database_url": postgres.create(with_schema=True),
        "queue_url": f"amqp://someone:guessed@127.0.0.1:{port}/",
        "store_url": str(tmp_path / "store"),
        "local_roots": str(tmp_path),
        "preflight_wait_s": "0",
        "signing_secret": 32 * "s",
    }
    deployment = Deployment(tmp_path, settings)
    write_file(tmp_path / "f.root", 1, 10)
    try:
        app = deployment.add_app("app")
        app.wait_for(f"broker.lost: hints, at 127.0.0.1:{port}")
        token = deployment.run("token", "create", "marie").strip()
        url = deployment.url_of("app")
        request_id = submit(
            url,
            token,
            **{"file-list": [str(tmp_path / "f.root")], "selection": select(), "codegen": "uproot-raw"},
        )
        app.kill()
        app = deployment.add_app("successor")
        with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
            answer = client.get(f"{deployment.url_of('successor')}/servicex/transformation/{request_id}")
        assert answer.json()["status"] == "Submitted"
        assert "guessed" not in app.text()
    finally:
        deployment.close()
