"""uproot's expression language, as the code generator of uproot-raw queries sets it up."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import awkward as ak
from uproot.language.python import PythonLanguage

from servicex_server.plan.function import FUNCTIONS


def language(*, uses_event_axis: bool) -> PythonLanguage:
    """uproot's language with the functions, and the axes, that the code generator gives it."""
    functions: dict[str, Callable[..., Any]] = dict(PythonLanguage.default_functions)
    for name, function in FUNCTIONS.items():
        given = function.event_axis if uses_event_axis else None
        target = getattr(ak, name)
        functions[name] = target if given is None else partial(_with_axis, target, given)
    return PythonLanguage(functions=functions)


def _with_axis(target: Callable[..., Any], event_axis: int, *arguments: Any, **options: Any) -> Any:
    if len(arguments) == 2 and target is ak.max:
        return target(*arguments, **options)
    return target(*arguments, **{"axis": event_axis, **options})
