"""Options that several commands share, and the settings they add up to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from servicex_server.app.settings import Settings

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file of settings (see `servicex-server config docs`)."),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder for the database, results, secrets and servicex.yaml."),
]
OutputOption = Annotated[
    Literal["text", "json"], typer.Option("--output", help="Readable lines, or one JSON document.")
]


def load_settings(config: Path | None, **flags: object) -> Settings:
    """Settings from flags, environment, file and defaults (imported late: pydantic costs time)."""
    from servicex_server.app.settings import load  # noqa: PLC0415  keeps --help quick

    return load(config, **flags)
