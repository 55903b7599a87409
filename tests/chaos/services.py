"""PostgreSQL, RabbitMQ and an S3 server, each of which may be stopped, started and frozen."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import psutil

import seaweed_server
from postgres_server import PostgresServer, running_postgres
from rabbitmq_server import RabbitServer, running_rabbitmq
from seaweed_server import SeaweedServer, running_seaweed


@dataclass
class Services:
    """What a deployment stands on; one fault at a time each.

    Attributes:
        locks: held while the service of that name is broken.
    """

    postgres: PostgresServer
    broker: RabbitServer
    store: SeaweedServer
    locks: Mapping[str, threading.Lock] = field(
        default_factory=lambda: {name: threading.Lock() for name in ("postgres", "broker", "store")}
    )

    def store_settings(self, prefix: str) -> dict[str, str]:
        """Settings of a store of its own."""
        return {
            "store_url": f"s3://{seaweed_server.BUCKET}/{prefix}",
            "store_endpoint": self.store.endpoint,
            "store_access_key": seaweed_server.ACCESS_KEY,
            "store_secret_key": seaweed_server.SECRET_KEY,
        }

    def list_keys(self, prefix: str) -> set[str]:
        """Keys of all objects of such a store, without its prefix."""
        pages = self.store.client().get_paginator("list_objects_v2")
        return {
            found["Key"].removeprefix(f"{prefix}/")
            for page in pages.paginate(Bucket=seaweed_server.BUCKET, Prefix=f"{prefix}/")
            for found in page.get("Contents", ())
        }

    def processes_of(self, name: str) -> list[psutil.Process]:
        """The service's processes, to be frozen."""
        found: int | None = None
        if name == "postgres":
            found = int((self.postgres.folder / "data" / "postmaster.pid").read_text().split()[0])
        elif name == "broker":
            found = self.broker._process.pid if self.broker._process is not None else None
        elif self.store.process is not None:
            found = self.store.process.pid
        return [] if found is None else tree_of(found)

    def outage_of(self, name: str) -> tuple[Callable[[], None], Callable[[], None]]:
        """How to crash the service, and how to have it back."""
        if name == "postgres":
            return (lambda: self.postgres.stop("immediate")), self.postgres.start
        if name == "broker":
            return self.broker.kill, self.broker.start
        return self.store.kill, lambda: void(self.store.start())


def void(_: object) -> None:
    """Nothing."""


def tree_of(pid: int) -> list[psutil.Process]:
    """The process and all below it."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def send(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Sends a signal to each that is still there."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


@contextmanager
def running_services() -> Iterator[Services]:
    """All three, for all runs of a program."""
    with ExitStack() as stack:
        yield Services(
            stack.enter_context(running_postgres()),
            stack.enter_context(running_rabbitmq()),
            stack.enter_context(running_seaweed()),
        )
