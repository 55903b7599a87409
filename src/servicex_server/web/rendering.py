"""From a template and its values to an answer that a browser treats with care."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse

_POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_LIVE_POLICY = f"{_POLICY}; script-src 'self'; connect-src 'self'"

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: browsers would then send `Origin: null` with our own form.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _time(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if moment is not None else "not yet"


def _size(n_bytes: int) -> str:
    size = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")  # narrow no-break space


def build_environment() -> Environment:
    """Jinja with everything escaped and every unknown name an error."""
    environment = Environment(
        loader=PackageLoader("servicex_server.web", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["time"] = _time
    environment.filters["size"] = _size
    environment.filters["count"] = _count
    return environment


ENVIRONMENT = build_environment()


def render(template: str, /, status: int = 200, *, is_live: bool = False, **values: object) -> HTMLResponse:
    """The page made of `template` (a file name in `templates/`).

    Args:
        template: the file.
        status: HTTP status.
        is_live: the page may run the server's own script, which hears events.
        values: names that the template uses.
    """
    text = ENVIRONMENT.get_template(template).render(**values)
    headers = dict(SECURITY_HEADERS)
    if is_live:
        headers["Content-Security-Policy"] = _LIVE_POLICY
    return HTMLResponse(text, status, headers=headers)
