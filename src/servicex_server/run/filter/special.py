"""Elementwise functions that numpy does not have, on the numbers inside of any structure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray


def _of_floats(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """The function of a Python float, applied to floats of any size; whole numbers count as float64."""
    vectorised = np.vectorize(function, otypes=[np.float64])

    def on_numbers(numbers: NDArray[Any]) -> NDArray[Any]:
        dtype = numbers.dtype if numbers.dtype.kind == "f" else np.dtype(np.float64)
        result: NDArray[Any] = vectorised(numbers.astype(np.float64)).astype(dtype)
        return result

    def on_layout(layout: Any, **_: object) -> Any:
        if layout.is_numpy:
            return ak.contents.NumpyArray(on_numbers(np.asarray(layout.data)))
        return None

    def apply(value: Any) -> Any:
        if isinstance(value, ak.Array):
            return ak.transform(on_layout, value)
        return on_numbers(np.asarray(value))[()]

    return apply


def _gamma(value: float) -> float:
    try:
        return math.gamma(value)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.nan


def _lgamma(value: float) -> float:
    try:
        return math.lgamma(value)
    except (OverflowError, ValueError):
        return math.inf


def _factorial(value: float) -> float:
    return float(np.round(_gamma(np.round(value) + 1)))


def _numpy(function: str) -> Callable[[Any], Any]:
    on_arrays, on_scalars = getattr(ak, function), getattr(np, function)

    def apply(value: Any) -> Any:
        return on_arrays(value) if isinstance(value, ak.Array) else on_scalars(value)

    return apply


SPECIAL_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "erf": _of_floats(math.erf),
    "erfc": _of_floats(math.erfc),
    "gamma": _of_floats(_gamma),
    "lgamma": _of_floats(_lgamma),
    "factorial": _of_floats(_factorial),
    **{name: _numpy(name) for name in ("round", "real", "imag")},
}
