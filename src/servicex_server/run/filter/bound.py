"""Refuses operations whose result would not fit, before they are carried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import awkward as ak
import numpy as np

from servicex_server.errors import ResourceExhausted
from servicex_server.plan.ir import Align, Broadcast, Call, Expr

MAX_BYTES = 2 << 30
_BYTES_PER_ELEMENT = 8


def check_bytes(node: Expr, value: Any, max_bytes: int) -> None:
    """Raises `ResourceExhausted` if a value is larger than allowed."""
    if isinstance(value, ak.Array):
        _require(node, float(value.nbytes), max_bytes)


def check_before(node: Expr, values: Mapping[Expr, Any], max_bytes: int) -> None:
    """Raises `ResourceExhausted` if the node's value would be larger than allowed."""
    match node:
        case Call(function="cartesian" | "argcartesian", arguments=arguments):
            arrays = [values[argument] for argument in arguments]
            n_elements = _n_products(arrays, cast(int, node.option("axis"))) * len(arrays)
        case Call(function="combinations" | "argcombinations" | "choose", arguments=(source,)):
            n = cast(int, node.option("n"))
            n_elements = _n_combinations(values[source], n, cast(int, node.option("axis"))) * n
        case Call(function="pad_none", arguments=(source,)):
            n_elements = float(len(values[source]) + _total(values[source])) * cast(
                int, node.option("target")
            )
        case Call(function="concatenate", arguments=arguments):
            n_elements = sum(float(values[item].nbytes) for item in arguments) / _BYTES_PER_ELEMENT
        case Align(source=source, like=like, axis=axis):
            n_elements = _n_products([values[source], values[like]], axis) * _depth_factor(
                values[source], axis
            )
        case Broadcast(source=source, like=like) if isinstance(values[source], str):
            n_elements = float(_total(values[like]) + len(values[like])) * len(values[source])
        case _:
            return
    _require(node, n_elements * _BYTES_PER_ELEMENT, max_bytes)


def _require(node: Expr, n_bytes: float, max_bytes: int) -> None:
    if n_bytes > max_bytes:
        place = node.origin or type(node).__name__.lower()
        need, limit = n_bytes / 2**30, max_bytes / 2**30
        message = f"{place}: the result would need {need:.3g} GiB; at most {limit:.3g} GiB are allowed"
        raise ResourceExhausted(message)


def _counts(array: ak.Array, axis: int) -> Any:
    """How long each list at the axis is, as floats so that products cannot overflow."""
    if axis == 0:
        return float(len(array))
    return ak.values_astype(ak.fill_none(ak.num(array, axis=axis), 0, axis=None), np.float64)


def _n_products(arrays: Sequence[ak.Array], axis: int) -> float:
    product = _counts(arrays[0], axis)
    for array in arrays[1:]:
        product = product * _counts(array, axis)
    return float(ak.sum(product, axis=None)) if isinstance(product, ak.Array) else float(product)


def _n_combinations(array: ak.Array, n: int, axis: int) -> float:
    counts = _counts(array, axis)
    product: Any = 1.0
    for i in range(min(n, 1_000)):
        product = product * (counts - i if i == 0 else np.maximum(counts - i, 0.0)) / (i + 1)
    return float(ak.sum(product, axis=None)) if isinstance(product, ak.Array) else float(product)


def _total(array: ak.Array) -> int:
    """How many innermost values there are."""
    return int(array.nbytes // _BYTES_PER_ELEMENT) + 1


def _depth_factor(array: ak.Array, axis: int) -> float:
    """How many innermost values each list element at the axis holds, on average."""
    n_lists = float(ak.sum(_counts(array, axis), axis=None)) if axis else float(len(array))
    return max(1.0, _total(array) / max(n_lists, 1.0))
