"""`servicex-server check`: what is configured, and what of it can be reached."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from servicex_server.cli.options import ConfigOption, DataDirOption, OutputOption, load_settings


def check(data_dir: DataDirOption = None, config: ConfigOption = None, output: OutputOption = "text") -> None:
    """Tell what is configured and reachable; exit 1 if something would stop the server."""
    settings = load_settings(config, data_dir=data_dir)
    from servicex_server.app.checks import examine  # noqa: PLC0415  keeps --help quick
    from servicex_server.app.finding import Grade  # noqa: PLC0415

    findings = examine(settings)
    if output == "json":
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            typer.echo(f"{finding.grade.value:7} {finding.subject:{width}}  {finding.detail}")
    if any(finding.grade is Grade.FAIL for finding in findings):
        raise typer.Exit(1)
