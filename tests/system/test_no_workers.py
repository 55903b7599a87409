"""A deployment in which work waits and no worker is there: who says so, and what happens when one comes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from chaos.inputs import select, write_file
from deployment import a_deployment, submit
from postgres_server import PostgresServer
from rabbitmq_server import running_rabbitmq

ABSENT = "no worker is connected"


def test_work_that_waits_for_workers_is_told_of(postgres: PostgresServer, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    write_file(tmp_path / "f.root", 1, 50)
    with (
        running_rabbitmq() as broker,
        a_deployment(
            tmp_path,
            database_url=postgres.create(),
            queue_url=broker.url,
            store={"store_url": str(store)},
            inputs=tmp_path,
            preflight_wait_s="0",
        ) as deployment,
    ):
        app = deployment.add_app("app")
        token = deployment.run("token", "create", "marie").strip()
        url = deployment.url_of("app")
        request_id = submit(
            url,
            token,
            **{"file-list": [str(tmp_path / "f.root")], "selection": select(), "codegen": "uproot-raw"},
        )
        (tmp_path / "token").write_text(token)
        follow = subprocess.Popen(
            (
                *(sys.executable, "-m", "servicex_server", "follow", request_id),
                *("--url", url, "--token-file", str(tmp_path / "token")),
            ),
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert follow.stdout is not None
        # If it says nothing of it, it ends here, and so do the loops over what it says.
        patience = threading.Timer(60, follow.kill)
        patience.start()
        try:
            assert any(ABSENT in line for line in follow.stdout), "follow does not say so"
            page = httpx.get(
                f"{url}/transformation-request/{request_id}", headers={"Authorization": f"Bearer {token}"}
            )
            assert ABSENT in page.text
            app.wait_for("worker.none: 1 units wait")
            deployment.add_worker("worker")
            app.wait_for("worker.back")
            assert "Complete: 1 of 1 files delivered" in follow.stdout.read()
            assert follow.wait() == 0
        finally:
            patience.cancel()
            follow.kill()
            follow.wait()
            follow.stdout.close()
        assert app.text().count("worker.none") == 1
