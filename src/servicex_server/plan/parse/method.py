"""The methods of func_adl that make vectors of records, and those of the vectors."""

from __future__ import annotations

from servicex_server.errors import QuerySyntaxError
from servicex_server.plan.ir import Call, Zip
from servicex_server.plan.parse.collection import OPERATOR_NAMES, Site
from servicex_server.plan.parse.value import Array, Structure, Value, describe, fail, origin_of
from servicex_server.plan.pattern import nearest
from servicex_server.plan.vector import CONVERSIONS, FOUR_MOMENTUM, MATRIX_METHODS, METHODS, PROPERTIES


def lower_method(site: Site) -> Value:
    """The value of a method that is not an operator; the first of the site's items is its source.

    Raises:
        UnsupportedQuery: there is no such method.
    """
    name, n_arguments = site.name, len(site.items) - 1
    if name in CONVERSIONS:
        if n_arguments:
            fail(f"{name} takes no arguments", site.node, QuerySyntaxError)
        return _vectors(site)
    if name in PROPERTIES:
        fail(f"'{name}' is not supported as a method, because it is a property: write .{name}", site.node)
    if name not in METHODS:
        near = nearest(name, (*METHODS, *CONVERSIONS, *OPERATOR_NAMES))
        hint = f"; nearest: {', '.join(near)}" if near else ""
        reason = "only the operators of func_adl and the methods of vectors are"
        fail(f"the method '{name:.100}' is not supported, because {reason}{hint}", site.node)
    least, most = METHODS[name]
    if not least <= n_arguments <= most:
        needed = f"{least}" if least == most else f"{least} to {most}"
        fail(f"{name} takes {needed} arguments, not {n_arguments}", site.node, QuerySyntaxError)
    values = [site.lowering.lower(item, site.scope) for item in site.items]
    if name in MATRIX_METHODS:
        values = [values[0], *_matrix(site, values[1])]
    operands, depth = site.lowering.level(values, site.scope, site.node)
    call = Call("vector", operands, (("member", name),), origin=origin_of(f"'{name}'", site.node))
    return Array(site.lowering.add(call), depth)


def _vectors(site: Site) -> Array:
    lowering, origin = site.lowering, origin_of(site.name, site.node)
    value = lowering.lower(site.items[0], site.scope)
    match value:
        case Array(expr=expr, scope=depth):
            pass
        case Structure(names=names, values=values) if names:
            items, depth = lowering.level(values, site.scope, site.node)
            expr = lowering.add(Zip(names, items, None, origin=origin))
        case _:
            fail(f"{site.name} makes vectors of a dict or of records, not of {describe(value)}", site.node)
    call = Call("with_name", (expr,), (("name", FOUR_MOMENTUM),), origin=origin)
    return Array(lowering.add(call), depth)


def _matrix(site: Site, value: Value) -> tuple[Value, ...]:
    """The elements of a matrix, row by row."""
    keys = MATRIX_METHODS[site.name]
    if not isinstance(value, Structure) or value.names is None or not set(keys) <= set(value.names):
        fail(f"{site.name} takes a matrix as a dict with the keys {', '.join(keys)}", site.node)
    return tuple(value.values[value.names.index(key)] for key in keys)
