"""`servicex-server check` of a deployment: what it tries, and what it says of causes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployment import Deployment
from postgres_server import PostgresServer
from rabbitmq_server import RabbitServer, free_ports, running_rabbitmq
from refusing_s3 import refusing_s3
from rucio_api import PASSWORD, FakeRucio, running_rucio_api
from seaweed_server import ACCESS_KEY, BUCKET, SECRET_KEY, SeaweedServer
from servicex_server.cli import app


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitServer]:
    with running_rabbitmq() as server:
        yield server


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("SERVICEX_", "X509_", "BEARER_")):
            monkeypatch.delenv(name)


def check(tmp_path: Path, **settings: str) -> tuple[int, dict[str, tuple[str, str]], str]:
    """Exit code, grade and detail by subject, and all that was said."""
    told = {"data_dir": str(tmp_path / "data"), "queue_url": "amqp://a:guessed@127.0.0.1:1/", **settings}
    ran = CliRunner().invoke(
        app,
        ["check", "--output", "json"],
        env={f"SERVICEX_{name.upper()}": value for name, value in told.items()},
    )
    findings: list[dict[str, Any]] = json.loads(ran.stdout)
    return ran.exit_code, {each["subject"]: (each["grade"], each["detail"]) for each in findings}, ran.output


def test_a_deployment_that_works(
    postgres: PostgresServer, broker: RabbitServer, seaweed: SeaweedServer, tmp_path: Path
) -> None:
    settings = {
        "database_url": postgres.create(with_schema=True),
        "queue_url": broker.url,
        "queue_prefix": "sxcheck",
        "store_url": f"s3://{BUCKET}/check-test",
        "store_endpoint": seaweed.endpoint,
        "store_access_key": ACCESS_KEY,
        "store_secret_key": SECRET_KEY,
        "signing_secret": 32 * "s",
    }
    code, found, said = check(tmp_path, **settings)
    assert code == 0, said
    assert [found[subject][0] for subject in ("database", "broker", "result store")] == ["ok"] * 3
    assert found["workers"] == (
        "warning",
        "none waits for files of 'sxcheck': start `servicex-server worker`",
    )
    assert not {"server", "client file", "names", "signing secret", "rucio"} & found.keys()
    assert found["local root"][1].startswith("none")
    assert "servicex-server up" not in said
    for secret in ("pass/word", "pass%2Fword", SECRET_KEY):
        assert secret not in said
    deployment = Deployment(tmp_path, settings)
    try:
        deployment.add_worker("worker")
        assert check(tmp_path, **settings)[1]["workers"][0] == "ok"
    finally:
        deployment.close()


def test_a_broker_that_does_not_let_us_in(broker: RabbitServer, tmp_path: Path) -> None:
    wrong = broker.url.replace("pass%2Fword", "guessed-wrong")
    code, found, said = check(tmp_path, queue_url=wrong)
    assert code == 1
    assert found["broker"][0] == "FAIL"
    assert "refuses the user 'tester'" in found["broker"][1]
    assert "SERVICEX_QUEUE_URL" in found["broker"][1]
    assert "guessed" not in said


def test_a_broker_that_is_away(tmp_path: Path) -> None:
    code, found, said = check(tmp_path)
    assert code == 1
    assert "the broker at 127.0.0.1:1 (virtual host /) cannot be reached" in found["broker"][1]
    assert "guessed" not in said


def test_a_store_that_refuses(tmp_path: Path) -> None:
    with refusing_s3(403, "AccessDenied") as server:
        store = {
            "store_url": f"s3://{BUCKET}",
            "store_endpoint": server.endpoint,
            "store_access_key": ACCESS_KEY,
            "store_secret_key": SECRET_KEY,
        }
        grade, detail = check(tmp_path, **store)[1]["result store"]
    assert grade == "FAIL"
    assert "needs to read, write, list and delete" in detail
    assert "SERVICEX_STORE_ACCESS_KEY" in detail


def test_a_store_that_is_away(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    store = {
        "store_url": f"s3://{BUCKET}",
        "store_endpoint": f"http://127.0.0.1:{port}",
        "store_access_key": ACCESS_KEY,
        "store_secret_key": SECRET_KEY,
    }
    code, found, said = check(tmp_path, **store)
    assert code == 1
    assert "cannot be reached: connection refused" in found["result store"][1]
    assert "SERVICEX_STORE_ENDPOINT" in found["result store"][1]
    assert SECRET_KEY not in said


def test_a_folder_of_results(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    grade, detail = check(tmp_path, store_url=str(folder))[1]["result store"]
    assert (grade, "there is no folder" in detail) == ("FAIL", True)
    assert not folder.exists()
    folder.mkdir()
    assert check(tmp_path, store_url=str(folder), min_free_bytes="0")[1]["result store"][0] == "ok"
    grade, detail = check(tmp_path, store_url=str(folder), min_free_bytes=str(2**62))[1]["result store"]
    assert (grade, "min_free_bytes" in detail) == ("FAIL", True)


def test_what_an_app_would_warn_of(tmp_path: Path) -> None:
    _, found, _ = check(tmp_path, database_url="postgresql://a:b@127.0.0.1:1/x", host="0.0.0.0")
    assert found["database"][0] == "FAIL"
    assert "SERVICEX_PUBLIC_URL" in found["names"][1]
    assert "SERVICEX_SIGNING_SECRET" in found["signing secret"][1]
    _, of_worker, _ = check(tmp_path, host="0.0.0.0")
    assert of_worker["database"][0] == "note"
    assert not {"names", "signing secret", "access"} & of_worker.keys()


def test_rucio_is_asked_whether_it_knows_us(tmp_path: Path) -> None:
    with running_rucio_api(FakeRucio()) as rucio:
        settings = {"rucio_host": rucio.url, "rucio_auth_type": "userpass", "rucio_username": "jane"}
        good = check(tmp_path, **settings, rucio_password=PASSWORD)[1]["rucio"]
        _, found, said = check(tmp_path, **settings, rucio_password="guessed wrong")
    assert good == ("ok", f"{rucio.url} lets this server in (userpass)")
    assert found["rucio"][0] == "warning"
    assert "`rucio_username` and `rucio_password`" in found["rucio"][1]
    assert "guessed" not in said
    assert PASSWORD not in said


def test_rucio_that_is_away_or_wants_a_proxy_that_is_not_there(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    away = f"http://127.0.0.1:{port}"
    settings = {"rucio_auth_type": "userpass", "rucio_username": "jane", "rucio_password": PASSWORD}
    grade, detail = check(tmp_path, **settings, rucio_host=away)[1]["rucio"]
    assert (grade, "Rucio (127.0.0.1) does not answer" in detail) == ("warning", True)
    grade, detail = check(tmp_path, rucio_host=away)[1]["grid proxy"]
    assert grade == "warning"
    assert "data/grid/x509up is missing" in detail
    assert "servicex-server proxy" in detail
