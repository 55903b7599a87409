"""Calls of the `vector` package, and the types that they give.

The type of a result depends on the coordinates that the vectors have and on each one's dtype, by rules that
are written down nowhere but in that package. So it is asked: with arrays of no elements.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import awkward as ak
import numpy as np
from vector.backends.awkward import behavior

from servicex_server.errors import QueryTypeError
from servicex_server.plan.awkward_type import from_awkward, to_form
from servicex_server.plan.ir import OptionValue, Scalar
from servicex_server.plan.types import List, Type
from servicex_server.plan.vector import MATRIX_METHODS

Options = tuple[tuple[str, OptionValue], ...]


def member(name: str, arguments: Sequence[Any], *, is_method: bool) -> Any:
    """A property of the first argument, or its method called with the others.

    Args:
        name: one of `vector.PROPERTIES` or `vector.METHODS`.
        arguments: awkward arrays, or Python constants; of a matrix method all elements of the matrix.
        is_method: whether the name is one of `METHODS`.
    """
    source = with_behavior(arguments[0])
    if not is_method:
        return getattr(source, name)
    others: tuple[Any, ...] = tuple(map(with_behavior, arguments[1:]))
    if name in MATRIX_METHODS:
        others = (dict(zip(MATRIX_METHODS[name], others, strict=True)),)
    return getattr(source, name)(*others)


def with_behavior(value: Any) -> Any:
    """The array with the methods of vectors; anything else as it is."""
    return type(value)(value.layout, behavior=behavior) if isinstance(value, ak.Array | ak.Record) else value


@functools.lru_cache(maxsize=1024)
def type_of_member(name: str, arguments: tuple[Type | Scalar, ...], *, is_method: bool) -> Type:
    """The type of `member(name, …)` for arrays of these types and constants of these values.

    Raises:
        QueryTypeError: it does not apply to them; the reason alone.
    """
    return _type_of(lambda values: member(name, values, is_method=is_method), arguments)


@functools.lru_cache(maxsize=1024)
def type_of_ufunc(function: str, operands: tuple[Type | Scalar, ...]) -> Type:
    """The type of numpy's function of operands of which some are vectors."""
    ufunc = getattr(np, function)
    return _type_of(lambda values: ufunc(*map(with_behavior, values)), operands)


@functools.lru_cache(maxsize=1024)
def type_of_reducer(function: str, value: Type, axis: int) -> Type:
    """The type of awkward's reduction of vectors."""
    reducer = getattr(ak, function)
    return _type_of(lambda values: reducer(with_behavior(values[0]), axis=axis), (value,))


def _type_of(compute: Callable[[list[Any]], Any], arguments: Sequence[Type | Scalar]) -> Type:
    values = [argument if isinstance(argument, Scalar) else _no_elements(argument) for argument in arguments]
    try:
        result = compute(values)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error.args[0] if error.args else error).split())
        reason = reason.partition("This error occurred while")[0].strip() or type(error).__name__
        message = f"it does not apply to these vectors: {reason:.200}"
        raise QueryTypeError(message) from None
    if not isinstance(result, ak.Array):
        message = "it does not apply to these vectors"
        raise QueryTypeError(message)
    element = from_awkward(result.type.content)
    return List(element) if any(isinstance(argument, List) for argument in arguments) else element


def _no_elements(value: Type) -> ak.Array:
    """An array of the type; a single value (the first of a file, say) is taken for an array of such."""
    element = value.content if isinstance(value, List) else value
    return ak.Array(to_form(element).length_zero_array())
