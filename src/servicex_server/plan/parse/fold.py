"""Arithmetic between constants, as Python does it, within 64-bit bounds.

Constants stay Python numbers until they meet an array: `float32 * (2 * 3.5)` is float32.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import cast

from servicex_server.errors import QueryTypeError

Constant = bool | int | float | str | None
MAX_BITS = 64

_OPERATORS: dict[str, Callable[..., object]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "power": operator.pow,
    "left_shift": operator.lshift,
    "right_shift": operator.rshift,
    "bitwise_and": operator.and_,
    "bitwise_or": operator.or_,
    "bitwise_xor": operator.xor,
    "invert": operator.invert,
    "negative": operator.neg,
    "positive": operator.pos,
    "absolute": abs,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "logical_and": lambda left, right: bool(left) and bool(right),
    "logical_or": lambda left, right: bool(left) or bool(right),
    "logical_not": operator.not_,
}
_STRING_OPERATORS = frozenset({"equal", "not_equal"})


def is_foldable(function: str) -> bool:
    """Whether the function of constants is a constant again."""
    return function in _OPERATORS


def fold(function: str, values: Sequence[Constant], symbol: str) -> Constant:
    """The value of an operator applied to constants.

    Raises:
        QueryTypeError: the operator does not fit them, or the result does not fit 64 bits.
    """
    if function not in _STRING_OPERATORS and not all(
        isinstance(value, bool | int | float) for value in values
    ):
        shown = " and ".join(map(repr, values))
        message = f"'{symbol}' does not apply to {shown:.200}"
        raise QueryTypeError(message)
    if function in {"power", "left_shift"}:
        _check_growth(function, values, symbol)
    try:
        result = _OPERATORS[function](*values)
    except (ArithmeticError, TypeError, ValueError) as error:
        message = f"'{symbol}' of constants: {error}"
        raise QueryTypeError(message) from error
    if isinstance(result, complex):
        message = f"'{symbol}' of constants gives a complex number"
        raise QueryTypeError(message)
    return check_size(cast(Constant, result))


def check_size(value: Constant) -> Constant:
    """The value, if it is not a whole number of more than 64 bits.

    Raises:
        QueryTypeError: it is.
    """
    if isinstance(value, int) and not -(1 << (MAX_BITS - 1)) <= value < 1 << MAX_BITS:
        message = f"a whole number of {value.bit_length()} bits does not fit {MAX_BITS}"
        raise QueryTypeError(message)
    return value


def _check_growth(function: str, values: Sequence[Constant], symbol: str) -> None:
    left, right = values
    if not isinstance(left, int) or not isinstance(right, int) or right <= 0:
        return
    n_bits = left.bit_length() * right if function == "power" else left.bit_length() + right
    is_constant = abs(left) <= 1 if function == "power" else left == 0
    if n_bits > 2 * MAX_BITS and not is_constant:
        message = f"'{symbol}' of constants does not fit {MAX_BITS} bits"
        raise QueryTypeError(message)
