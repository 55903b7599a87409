"""Signing in: a person pastes the token once, and the browser keeps a session cookie.

The cookie opens the pages alone, never the API: cookies go to every port of a host, so another server on the
same machine would see it.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from servicex_server.errors import InvalidRequest, NotAllowed, NotAuthenticated
from servicex_server.web.context import COOKIE, Context
from servicex_server.web.rendering import SECURITY_HEADERS, render

router = APIRouter(include_in_schema=False)

_MAX_FORM_BYTES = 16_384


def local_target(path: str, query: str = "") -> str:
    """`path?query` if it is a place on this server, else the start page: never a link to elsewhere."""
    is_local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    if not is_local or path.startswith(("/sign-in", "/sign-out")):
        return "/"
    return f"{path}?{query}" if query else path


def sign_in_form(target: str, *, status: int = 200, problem: str | None = None) -> HTMLResponse:
    """The form that asks for the token and leads on to `target`."""
    return render("sign_in.html", status=status, target=target, problem=problem)


@router.get("/sign-in")
async def show_form(target: str = "/") -> Response:
    """The form."""
    return sign_in_form(local_target(target))


@router.post("/sign-in")
async def sign_in(request: Request, context: Context) -> Response:
    """Starts a session for the holder of the token in the form."""
    _refuse_foreign_form(request)
    form = await _read_form(request)
    target = local_target(form.get("target", "/"))
    try:
        session = await context.gate.sign_in(form.get("token", ""))
    except NotAuthenticated:
        return sign_in_form(target, status=401, problem="Nobody holds this token.")
    response = RedirectResponse(target, 303, headers=dict(SECURITY_HEADERS))
    response.set_cookie(
        COOKIE,
        session,
        max_age=context.gate.lifetime_s,
        httponly=True,
        samesite="strict",
        secure=context.base_url(request).startswith("https://"),
    )
    return response


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """Ends the browser's session."""
    _refuse_foreign_form(request)
    response = RedirectResponse("/", 303, headers=dict(SECURITY_HEADERS))
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def _refuse_foreign_form(request: Request) -> None:
    # A foreign Origin does not come this far; what remains is a form sent without any.
    if "origin" not in request.headers and request.headers.get("sec-fetch-site") != "same-origin":
        message = "this form may only be sent from this server's own page"
        raise NotAllowed(message)


async def _read_form(request: Request) -> dict[str, str]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            message = f"the form is longer than {_MAX_FORM_BYTES} bytes"
            raise InvalidRequest(message)
    try:
        fields = parse_qs(body.decode("utf-8", errors="replace"), max_num_fields=10)
    except ValueError as error:
        message = f"the form cannot be read: {error}"
        raise InvalidRequest(message) from error
    return {name: values[0] for name, values in fields.items()}
