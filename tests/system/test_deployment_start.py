"""What an app of a deployment says at its start of settings that do not work, or hardly as they are meant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployment import Deployment, Role

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
