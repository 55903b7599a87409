"""Stock Celery as the ecosystem uses it: workers of a DID finder and of a sidecar, the server's sender.

Says when it is ready and what it was called with: lines of its output with a JSON document after `@`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from celery import Celery
from celery.signals import worker_ready
from kombu import Queue


def say(document: object) -> None:
    os.write(1, f"@{json.dumps(document)}\n".encode())


def say_ready(**_: object) -> None:
    say("ready")


def run_finder(app: Celery, scheme: str) -> None:
    """As servicex-did-finder-lib starts its worker."""

    def lookup_dataset(did: str, dataset_id: int, endpoint: str) -> None:
        say([did, dataset_id, endpoint])

    name = f"did_finder_{scheme}"
    app.task(name=f"{name}.lookup_dataset")(lookup_dataset)
    app.worker_main(["worker", "-Q", name, "--concurrency=1", f"--hostname={name}@%h"])


def run_sidecar(app: Celery, request_id: str, arguments: dict[str, int]) -> None:
    """As the official sidecar starts its worker."""

    def transform_file(**kwargs: object) -> None:
        say(kwargs)

    app.task(name="transformer_sidecar.transform_file")(transform_file)
    name = f"transformer-{request_id}"
    app.conf.update(
        task_queues=[sidecar_queue(name, arguments)],
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        task_create_missing_queues=False,
    )
    app.worker_main(
        ["worker", "-Q", name, "--concurrency=1", "--without-mingle", "--without-gossip", f"-n{name}@%h"]
    )


def sidecar_queue(name: str, arguments: dict[str, int]) -> Queue:
    return Queue(name, durable=False, auto_delete=True, queue_arguments=arguments)


def send(app: Celery, call: dict[str, Any]) -> None:
    """As the official server sends a look-up (to a named queue) or a file (to a sidecar's queue)."""
    queue = call["queue"]
    if queue.startswith("transformer-"):
        app.conf.task_queues = [sidecar_queue(queue, {})]
    sent = app.send_task(call["task"], args=call["args"], kwargs=call["kwargs"], queue=queue)
    say(sent.id)


def main() -> None:
    mode, url, what = sys.argv[1:4]
    worker_ready.connect(say_ready)
    app = Celery("peer", broker=url)
    app.conf.update(broker_connection_retry_on_startup=True, worker_send_task_events=False)
    if mode == "finder":
        run_finder(app, what)
    elif mode == "sidecar":
        run_sidecar(app, what, json.loads(sys.argv[4]))
    else:
        send(app, json.loads(what))


if __name__ == "__main__":
    main()
