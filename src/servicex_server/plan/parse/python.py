"""python queries: source code that defines `run_query(file_path)`. Here it is looked at, and never run.

What it does shows only in the sandbox of `run.sandbox`; what can be said before is whether it is Python.
"""

from __future__ import annotations

import ast
import base64
import binascii
import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from typing import NoReturn

from servicex_server.errors import QuerySyntaxError
from servicex_server.plan.plan import ScriptQuery

FUNCTION = "run_query"
MAX_SOURCE_BYTES = 64 * 1024
"""Python's parser takes a thousand times the memory of its text, and this runs in the server's process."""

_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}", re.ASCII)
_warnings_lock = threading.Lock()


def read_script(text: str) -> ScriptQuery:
    """The query in a text.

    Args:
        text: Python source, or (as clients send it) its base64 in UTF-8. No source that defines a function
            could be taken for base64, which knows no parentheses.

    Raises:
        QuerySyntaxError: it is no Python, or does not define the function.
    """
    if len(text) > 2 * MAX_SOURCE_BYTES:
        _fail(f"the code is longer than {MAX_SOURCE_BYTES} bytes")
    source = _decode(text) if _BASE64.fullmatch(text.strip()) else text
    if len(source.encode("utf-8", "replace")) > MAX_SOURCE_BYTES:
        _fail(f"the code is longer than {MAX_SOURCE_BYTES} bytes")
    source = source.replace("\r\n", "\n")
    if "\0" in source:
        _fail("the code holds a NUL character")
    _check_function(_parse(source))
    return ScriptQuery(source)


def _decode(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        message = f"a python query is source code or its base64 in UTF-8, which this is not: {error}"
        raise QuerySyntaxError(message) from error


def _parse(source: str) -> ast.Module:
    try:
        # A lock, because what `catch_warnings` changes belongs to all threads.
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SyntaxError as error:
        line = (
            f" (line {error.lineno} of the code: {(error.text or '').strip():.200})" if error.lineno else ""
        )
        message = f"the code is not valid Python: {error.msg}{line}"
        raise QuerySyntaxError(message) from error
    except (ValueError, RecursionError, MemoryError) as error:
        message = "the code is not valid Python: it is nested too deeply or holds what cannot be read"
        raise QuerySyntaxError(message) from error


def _check_function(module: ast.Module) -> None:
    defined = list(_defined(module.body))
    functions = [node for node in defined if isinstance(node, ast.FunctionDef) and node.name == FUNCTION]
    if not functions:
        if FUNCTION in {name for node in defined for name in _names(node)}:
            return
        names = [node.name for node in defined if isinstance(node, ast.FunctionDef)]
        shown = f"; it defines {', '.join(names[:5])}" if names else ""
        _fail(f"the code defines no function {FUNCTION}(file_path){shown:.300}")
    arguments = functions[-1].args
    positional = [*arguments.posonlyargs, *arguments.args]
    n_needed = len(positional) - len(arguments.defaults)
    only_by_name = any(default is None for default in arguments.kw_defaults)
    if n_needed > 1 or only_by_name or not (positional or arguments.vararg):
        line = functions[-1].lineno
        _fail(f"{FUNCTION} is called with the file's path alone, and must take it (line {line} of the code)")


def _defined(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run at the top, also below `if`, `try` and `with`."""
    stack = [iter(body)]
    while stack:
        for statement in stack[-1]:
            yield statement
            if isinstance(statement, ast.If | ast.Try | ast.With):
                inner = [getattr(statement, name, []) for name in ("body", "orelse", "finalbody")]
                inner += [handler.body for handler in getattr(statement, "handlers", [])]
                stack.append(iter([each for part in inner for each in part]))
                break
        else:
            stack.pop()


def _names(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return [alias.asname or alias.name for alias in names]
    return []


def _fail(problem: str) -> NoReturn:
    raise QuerySyntaxError(problem)
