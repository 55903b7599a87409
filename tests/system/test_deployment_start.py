"""What an app of a deployment says at its start of settings that do not work, or hardly as they are meant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployment import Deployment, Role
from rabbitmq_server import free_ports
from refusing_s3 import refusing_s3
from seaweed_server import ACCESS_KEY, BUCKET, SECRET_KEY, SeaweedServer

NAMES = "settings.incomplete: names: "
SECRET = "settings.incomplete: signing secret: "


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """One whose database and broker are away, which apps wait for."""
    (tmp_path / "store").mkdir()
    settings = {
        "database_url": "postgresql://a:guessed@127.0.0.1:1/x",
        "queue_url": "amqp://a:guessed@127.0.0.1:1/",
        "store_url": str(tmp_path / "store"),
        "public_url": "https://servicex.example.org",
        "signing_secret": 32 * "s",
    }
    deployment = Deployment(tmp_path, settings)
    try:
        yield deployment
    finally:
        deployment.close()


def start(deployment: Deployment, **settings: str) -> Role:
    """An app that has come as far as to wait for its database."""
    app = deployment.add("app", "app", "--port", "0", **settings)
    app.wait_for("database.awaited")
    return app


def refusal(deployment: Deployment, *arguments: str, **settings: str) -> str:
    """What a role says that does not start."""
    role = deployment.add("refused", *arguments, **settings)
    assert role.process is not None
    assert role.process.wait(30) == 1, role.text()
    return role.text()


def bucket(endpoint: str, name: str = BUCKET) -> dict[str, str]:
    """Settings of a store in S3."""
    return {
        "store_url": f"s3://{name}/start-test",
        "store_endpoint": endpoint,
        "store_access_key": ACCESS_KEY,
        "store_secret_key": SECRET_KEY,
    }


def test_an_app_that_lacks_nothing_warns_of_nothing(deployment: Deployment) -> None:
    assert "settings.incomplete" not in start(deployment, host="0.0.0.0").text()


def test_an_app_that_only_this_machine_reaches_needs_no_name(deployment: Deployment) -> None:
    del deployment.settings["public_url"]
    assert "settings.incomplete" not in start(deployment).text()


def test_an_app_that_listens_for_others_and_has_no_name_says_so(deployment: Deployment) -> None:
    del deployment.settings["public_url"]
    said = start(deployment, host="0.0.0.0").text()
    assert NAMES in said
    assert "answers requests to localhost alone" in said
    assert "SERVICEX_PUBLIC_URL" in said


def test_an_app_that_signs_with_a_secret_of_its_own_says_so(deployment: Deployment) -> None:
    del deployment.settings["signing_secret"]
    said = start(deployment).text()
    assert SECRET in said
    assert "SERVICEX_SIGNING_SECRET" in said
    assert "guessed" not in said


@pytest.mark.parametrize("role", [("app", "--port", "0"), ("sweeper",), ("worker", "--workers", "1")])
def test_no_role_makes_the_folder_that_a_volume_may_be_missing_from(
    deployment: Deployment, tmp_path: Path, role: tuple[str, ...]
) -> None:
    folder = tmp_path / "volume" / "results"
    said = refusal(deployment, *role, store_url=str(folder))
    assert f"there is no folder {folder} for results" in said
    assert "SERVICEX_STORE_URL" in said
    assert not folder.parent.exists()


def test_an_app_refuses_a_bucket_that_is_not_there(deployment: Deployment, seaweed: SeaweedServer) -> None:
    said = refusal(deployment, "app", "--port", "0", **bucket(seaweed.endpoint, "no-such-bucket"))
    assert "it has no such bucket" in said
    assert "SERVICEX_STORE_URL" in said


def test_an_app_refuses_a_store_that_does_not_know_its_key(
    deployment: Deployment, seaweed: SeaweedServer
) -> None:
    wrong = bucket(seaweed.endpoint) | {"store_secret_key": "guessed and wrong"}
    said = refusal(deployment, "app", "--port", "0", **wrong)
    assert "correct the credentials" in said
    assert "SERVICEX_STORE_SECRET_KEY" in said
    assert "guessed" not in said


def test_an_app_refuses_a_store_that_may_be_listed_alone(deployment: Deployment) -> None:
    with refusing_s3(403, "AccessDenied") as server:
        said = refusal(deployment, "app", "--port", "0", **bucket(server.endpoint))
    assert "it needs to read, write, list and delete in the bucket" in said


def test_an_app_starts_while_its_store_is_away_and_says_so(deployment: Deployment) -> None:
    (port,) = free_ports(1)
    said = start(deployment, **bucket(f"http://127.0.0.1:{port}")).text()
    assert "store.unusable: the result store s3://results/start-test" in said
    assert "connection refused" in said
    assert "SERVICEX_STORE_ENDPOINT" in said


def test_an_app_starts_on_a_store_that_works(deployment: Deployment, seaweed: SeaweedServer) -> None:
    assert "store." not in start(deployment, **bucket(seaweed.endpoint)).text()
