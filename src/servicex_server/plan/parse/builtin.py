"""The functions of Python and of numpy that func_adl queries may call by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from servicex_server.errors import QuerySyntaxError, QueryTypeError
from servicex_server.plan import function
from servicex_server.plan.ir import Scalar
from servicex_server.plan.parse import sexpr
from servicex_server.plan.parse.collection import OPERATOR_NAMES, Site
from servicex_server.plan.parse.fold import check_size
from servicex_server.plan.parse.value import Constant, Structure, Value, describe, fail
from servicex_server.plan.pattern import nearest

NUMPY_CONSTANTS = {
    "pi": math.pi, "e": math.e, "inf": math.inf, "nan": math.nan,
    "euler_gamma": 0.5772156649015329, "True_": True, "False_": False,
}  # fmt: skip
MAX_TEXT = 400


def lower_builtin(site: Site) -> Value:
    """The value of a function called by its bare name.

    Raises:
        UnsupportedQuery: there is no such function.
    """
    lower = _BUILTINS.get(site.name)
    if lower is not None:
        return lower(site)
    known = (*OPERATOR_NAMES, *_BUILTINS, "EventDataset")
    near = nearest(site.name, known)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    reason = "only the operators of func_adl, numpy's elementwise functions and a few of Python's are"
    return fail(f"the function '{site.name:.100}' is not supported, because {reason}{hint}", site.node)


def lower_numpy(site: Site) -> Value:
    """The value of `np.<name>(…)`; of constants it is a numpy scalar, whose dtype counts in promotions.

    Raises:
        UnsupportedQuery: there is no such function.
    """
    if site.name in function.SCALAR_TYPES:
        return _scalar(site)
    if site.name in function.INFINITIES:
        return _infinite(site)
    elementwise = function.NUMPY_FUNCTIONS.get(site.name)
    if elementwise is None:
        near = nearest(site.name, tuple(function.NUMPY_FUNCTIONS))
        hint = f"; nearest: {', '.join(near)}" if near else ""
        reason = "of numpy only elementwise functions of one result are"
        fail(f"the function 'np.{site.name:.100}' is not supported, because {reason}{hint}", site.node)
    values = _arguments(site, function.arity_of(elementwise))
    return site.lowering.apply(elementwise, values, site.scope, site.node, folds=False)


def _arguments(site: Site, n_least: int, n_most: int | None = None) -> list[Value]:
    n_most = n_least if n_most is None else n_most
    if not n_least <= len(site.items) <= n_most:
        needed = f"{n_least}" if n_least == n_most else f"{n_least} to {n_most}"
        fail(f"'{site.name}' takes {needed} arguments, not {len(site.items)}", site.node, QuerySyntaxError)
    return [site.lowering.lower(item, site.scope) for item in site.items]


def _scalar(site: Site) -> Value:
    (value,) = _arguments(site, 1)
    if not isinstance(value, Constant) or not isinstance(value.value, bool | int | float):
        reason = "only the elementwise functions of numpy take arrays"
        fail(f"np.{site.name} of {describe(value)} is not supported, because {reason}", site.node)
    return site.lowering.apply(site.name, [value], site.scope, site.node, folds=False)


def _infinite(site: Site) -> Value:
    """`isposinf` or `isneginf`, from the functions that numpy itself makes them of."""
    lowering, scope, node = site.lowering, site.scope, site.node
    (value,) = _arguments(site, 1)
    is_infinite = lowering.apply("isinf", [value], scope, node, folds=False)
    sign = lowering.apply("signbit", [value], scope, node, folds=False)
    if site.name == "isposinf":
        sign = lowering.apply("logical_not", [sign], scope, node, folds=False)
    return lowering.apply("logical_and", [is_infinite, sign], scope, node, folds=False)


def _absolute(site: Site) -> Value:
    return site.lowering.apply("absolute", _arguments(site, 1), site.scope, site.node)


def _power(site: Site) -> Value:
    return site.lowering.apply("power", _arguments(site, 2), site.scope, site.node)


def _sum(site: Site) -> Value:
    """The sum of a list's items, added one by one, as Python does."""
    items, *start = _arguments(site, 1, 2)
    if not isinstance(items, Structure) or items.names is not None:
        reason = "it adds the items of a list; the elements of a collection are added by Sum()"
        fail(f"sum of {describe(items)} is not supported, because {reason}", site.node)
    total = start[0] if start else Constant(0)
    for item in items.values:
        total = site.lowering.apply("add", [total, item], site.scope, site.node)
    return total


def _getattr(site: Site) -> Value:
    if len(site.items) != 2:
        fail(f"'getattr' takes 2 arguments, not {len(site.items)}", site.node, QuerySyntaxError)
    return site.lowering.lower(sexpr.Composite("attr", site.items, site.node.position), site.scope)


def _list(site: Site) -> Value:
    (items,) = _arguments(site, 1)
    if not isinstance(items, Structure) or items.names is not None:
        fail(f"{site.name} of {describe(items)} is not supported, because it copies lists only", site.node)
    return items


def _dict(site: Site) -> Value:
    (items,) = _arguments(site, 1)
    if isinstance(items, Structure) and items.names is not None:
        return items
    pairs = items.values if isinstance(items, Structure) else ()
    names: list[str] = []
    values: list[Value] = []
    for pair in pairs:
        match pair:
            case Structure(names=None, values=(Constant(value=str(name)), value)):
                names.append(name)
                values.append(value)
    if not pairs or len(names) != len(pairs) or len(set(names)) != len(names):
        fail("dict takes a list of pairs of a string and a value, all strings different", site.node)
    return Structure(tuple(names), tuple(values))


def _length(site: Site) -> Value:
    (items,) = _arguments(site, 1)
    if not isinstance(items, Structure):
        reason = "it counts the items of a list; the elements of a collection are counted by Count()"
        fail(f"len of {describe(items)} is not supported, because {reason}", site.node)
    return Constant(len(items.values))


def _constants(site: Site, values: Sequence[Value]) -> list[Scalar]:
    constants = [value.value for value in values if isinstance(value, Constant)]
    if len(constants) != len(values) or None in constants:
        hint = "np.minimum and np.maximum take arrays, Min() and Max() reduce collections"
        reason = (
            f"it takes constants only; {hint}" if site.name in {"min", "max"} else "it takes constants only"
        )
        fail(f"{site.name} of arrays is not supported, because {reason}", site.node)
    return constants


def _folded(site: Site) -> Value:
    """A function of Python of constants."""
    n_most = {"min": 50, "max": 50, "round": 2}.get(site.name, 1)
    values = _arguments(site, 1, n_most)
    if len(values) == 1 and isinstance(values[0], Structure) and site.name in {"min", "max"}:
        values = list(values[0].values)
    constants = _constants(site, values)
    if any(isinstance(value, str) and len(value) > MAX_TEXT for value in constants):
        fail(f"a text is longer than {MAX_TEXT} characters", site.node, QueryTypeError)
    try:
        return Constant(check_size(cast(Scalar, _FOLDED[site.name](*constants))))
    except (ArithmeticError, TypeError, ValueError) as error:
        return fail(f"{site.name}: {error}", site.node, QueryTypeError)


_FOLDED: Mapping[str, Callable[..., object]] = {
    "int": int, "float": float, "bool": bool, "min": min, "max": max, "round": round
}  # fmt: skip
_BUILTINS: Mapping[str, Callable[[Site], Value]] = {
    "abs": _absolute,
    "pow": _power,
    "sum": _sum,
    "getattr": _getattr,
    "list": _list,
    "tuple": _list,
    "dict": _dict,
    "len": _length,
    **dict.fromkeys(_FOLDED, _folded),
}
BUILTIN_NAMES = tuple(_BUILTINS)
