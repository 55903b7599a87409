"""The tasks that run beside the HTTP app."""

from __future__ import annotations

import asyncio

from servicex_server.service.ask import run_lookups
from servicex_server.service.catch_up import run_catch_up
from servicex_server.service.context import Services
from servicex_server.service.dispatch import resume, run_dispatcher
from servicex_server.service.report import consume_reports
from servicex_server.service.sweep import run_sweeper


async def run_background(services: Services) -> None:
    """Resumes unfinished work, then dispatches, records and sweeps until canceled.

    Of several servers the leader alone runs it, as the work of `leader.run_while_leader`, and also looks for
    what hints did not tell.
    """
    await resume(services)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_dispatcher(services), name="dispatcher")
        tasks.create_task(run_lookups(services), name="look-ups")
        tasks.create_task(consume_reports(services), name="reports")
        tasks.create_task(run_sweeper(services), name="sweeper")
        if services.hints is not None:
            tasks.create_task(run_catch_up(services), name="catch-up")
