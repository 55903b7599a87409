"""`servicex-server config`: what can be set, generated from the settings model itself."""

from __future__ import annotations

import json

import typer

from servicex_server.cli.disk import show_size

config_app = typer.Typer(help="What can be set, and how.", no_args_is_help=True)


@config_app.command()
def docs() -> None:
    """Print a Markdown table of all settings."""
    from servicex_server.app.settings import Settings  # noqa: PLC0415  keeps --help quick

    typer.echo("Sizes (`…_bytes`) are bytes, or such as `50GB` (10⁹ bytes each) and `20 GiB` (2³⁰).\n")
    typer.echo("| setting | environment | default | meaning |\n|---|---|---|---|")
    for name, field in Settings.model_fields.items():
        default = "computed" if field.default_factory else f"`{field.default}`"
        if name.endswith("_bytes"):
            default = f"`{show_size(field.default)}`"
        typer.echo(f"| `{name}` | `SERVICEX_{name.upper()}` | {default} | {field.description} |")


@config_app.command()
def schema() -> None:
    """Print the JSON Schema of the settings file."""
    from servicex_server.app.settings import Settings  # noqa: PLC0415  keeps --help quick

    typer.echo(json.dumps(Settings.model_json_schema(), indent=2))
