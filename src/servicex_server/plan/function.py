"""The functions that a query may call, and the arguments each takes. Nothing else can be called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class Kind(Enum):
    """What an option of a function may be."""

    AXIS = "a whole number or None"
    INT = "a whole number"
    BOOL = "True or False"
    FLOAT = "a number"
    VALUE = "a constant"
    NAMES = "a list of strings"
    LIMIT = "a whole number or None "


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a function.

    Attributes:
        kind: None for an array.
        default: used when the argument is left out; `...` where it must be given.
        is_keyword_only: whether it can be given by name only.
    """

    name: str
    kind: Kind | None = None
    default: object = ...
    is_keyword_only: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """An array function.

    Attributes:
        parameters: in positional order.
        takes_collection: the first argument is a list, tuple or dict of arrays.
        is_variadic: any number of arrays instead of `parameters[0]`.
        event_axis: the axis taken when none is given and the query uses the event-wise defaults.
    """

    name: str
    parameters: tuple[Parameter, ...]
    takes_collection: bool = False
    is_variadic: bool = False
    event_axis: int | None = None


def _array(name: str = "array", default: object = ...) -> Parameter:
    return Parameter(name, None, default)


def _option(name: str, kind: Kind, default: object = ..., *, keyword: bool = True) -> Parameter:
    return Parameter(name, kind, default, keyword)


def _axis(default: int | None) -> Parameter:
    return _option("axis", Kind.AXIS, default, keyword=False)


_KEEPDIMS = _option("keepdims", Kind.BOOL, False)


def _reducer(name: str, *, masks: bool = False, initial: bool = False) -> Function:
    extra = (_option("initial", Kind.FLOAT, None),) if initial else ()
    parameters = (_array(), _axis(None), _KEEPDIMS, *extra, _option("mask_identity", Kind.BOOL, masks))
    return Function(name, parameters, event_axis=1)


def _statistic(name: str, *, has_ddof: bool = False, masks: bool = False) -> Function:
    ddof = (_option("ddof", Kind.INT, 0, keyword=False),) if has_ddof else ()
    tail = (_axis(None), _KEEPDIMS, _option("mask_identity", Kind.BOOL, masks))
    return Function(name, (_array("x"), _array("weight", None), *ddof, *tail), event_axis=1)


_MOMENT = Function(
    "moment",
    (
        _array("x"),
        _option("n", Kind.INT, keyword=False),
        _array("weight", None),
        _axis(None),
        _KEEPDIMS,
        _option("mask_identity", Kind.BOOL, False),
    ),
    event_axis=1,
)
_ORDER = (_array(), _axis(-1), _option("ascending", Kind.BOOL, True), _option("stable", Kind.BOOL, True))
_COMBINE = (
    _array(),
    _option("n", Kind.INT, keyword=False),
    _option("replacement", Kind.BOOL, False),
    _option("axis", Kind.AXIS, 1),
    _option("fields", Kind.NAMES, None),
)
_CARTESIAN = (_array("arrays"), _axis(1), _option("nested", Kind.BOOL, None))
_CLOSE = (
    _option("rtol", Kind.FLOAT, 1e-5, keyword=False),
    _option("atol", Kind.FLOAT, 1e-8, keyword=False),
)
_NAN_REDUCERS = ("nansum", "nanprod")
_EXTREMES = ("min", "max", "nanmin", "nanmax")
_POSITIONS = ("argmin", "argmax", "nanargmin", "nanargmax")

FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        function.name: function
        for function in (
            *map(_reducer, ("sum", "prod", "any", "all", "count", "count_nonzero", *_NAN_REDUCERS)),
            *(_reducer(name, masks=True, initial=True) for name in _EXTREMES),
            *(_reducer(name, masks=True) for name in _POSITIONS),
            _statistic("mean"),
            _statistic("nanmean", masks=True),
            *(_statistic(name, has_ddof=True) for name in ("var", "nanvar", "std", "nanstd")),
            _MOMENT,
            Function("softmax", (_array("x"), _axis(-1), _KEEPDIMS), event_axis=1),
            Function("concatenate", (_array("arrays"), _axis(0)), takes_collection=True, event_axis=1),
            Function("flatten", (_array(), _axis(1)), event_axis=2),
            Function("where", (_array("condition"), _array("x"), _array("y"))),
            Function("num", (_array(), _axis(1))),
            Function("sort", _ORDER),
            Function("argsort", _ORDER),
            Function("mask", (_array(), _array("mask"), _option("valid_when", Kind.BOOL, True))),
            Function("is_none", (_array(), _axis(0))),
            Function("drop_none", (_array(), _axis(None))),
            Function(
                "pad_none",
                (
                    _array(),
                    _option("target", Kind.INT, keyword=False),
                    _axis(1),
                    _option("clip", Kind.BOOL, False),
                ),
            ),
            Function("fill_none", (_array(), _option("value", Kind.VALUE, keyword=False), _axis(-1))),
            Function("firsts", (_array(), _axis(1))),
            Function("singletons", (_array(), _axis(0))),
            Function("broadcast_arrays", (_option("depth_limit", Kind.LIMIT, None),), is_variadic=True),
            Function("broadcast_fields", (), is_variadic=True),
            Function("cartesian", _CARTESIAN, takes_collection=True),
            Function("argcartesian", _CARTESIAN, takes_collection=True),
            Function("combinations", _COMBINE),
            Function("argcombinations", _COMBINE),
            Function("isclose", (_array("a"), _array("b"), *_CLOSE, _option("equal_nan", Kind.BOOL, False))),
            Function("almost_equal", (_array("left"), _array("right"), *_CLOSE)),
        )
    }
)
"""Array functions by name; the defaults are awkward's, `event_axis` the ones of uproot-raw queries."""


def _words(text: str) -> list[str]:
    return text.split()


UNARY_UFUNCS = frozenset(
    _words(
        """absolute arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil conjugate cos cosh
deg2rad degrees exp exp2 expm1 fabs floor invert isfinite isinf isnan log log10
log1p log2 logical_not negative positive rad2deg radians reciprocal rint sign
signbit sin sinh spacing sqrt square tan tanh trunc"""
    )
)
BINARY_UFUNCS = frozenset(
    _words(
        """add arctan2 bitwise_and bitwise_or bitwise_xor copysign divide equal float_power
floor_divide fmax fmin fmod gcd greater greater_equal heaviside hypot lcm ldexp left_shift
less less_equal logaddexp logaddexp2 logical_and logical_or logical_xor maximum
minimum multiply nextafter not_equal power remainder right_shift subtract"""
    )
)
SPECIAL = frozenset({"erf", "erfc", "factorial", "gamma", "lgamma", "round", "real", "imag"})
"""Elementwise functions of one operand that are not numpy ufuncs."""

NUMPY_FUNCTIONS: Mapping[str, str] = MappingProxyType(
    {
        **{name: name for name in UNARY_UFUNCS | BINARY_UFUNCS},

            "abs": "absolute", "acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh",
            "atan": "arctan", "atan2": "arctan2", "atanh": "arctanh", "bitwise_count": "bitwise_count",
            "bitwise_invert": "invert", "bitwise_left_shift": "left_shift", "bitwise_not": "invert",
            "bitwise_right_shift": "right_shift", "fix": "trunc",
            "conj": "conjugate", "mod": "remainder", "pow": "power", "true_divide": "divide"
        ,
    }
)  # fmt: skip
"""Elementwise functions that func_adl queries reach as `np.<name>`."""

INFINITIES = frozenset({"isposinf", "isneginf"})
"""Functions of numpy that func_adl queries reach and that are made of others."""

SCALAR_TYPES: Mapping[str, str] = MappingProxyType(
    {
        **{
            name: name
            for name in _words(
                "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 bool"
            )
        },
        "bool_": "bool", "double": "float64", "single": "float32", "half": "float16", "byte": "int8",
        "ubyte": "uint8", "short": "int16", "ushort": "uint16", "intc": "int32", "uintc": "uint32",
        "int_": "int64", "uint": "uint64", "long": "int64", "ulong": "uint64", "longlong": "int64",
        "ulonglong": "uint64", "intp": "int64", "uintp": "uint64",
    }
)  # fmt: skip
"""numpy's types of numbers, which make scalars of constants."""

LANGUAGE_FUNCTIONS: Mapping[str, str] = MappingProxyType(
    {
        **{
            name: name
            for name in _words(
"""absolute arccos arccosh arcsin arcsinh arctan arctan2 arctanh cbrt ceil conjugate
copysign cos cosh erf erfc exp exp2 expm1 fabs factorial floor fmax fmin gamma hypot
imag isfinite isinf isnan lgamma log log10 log1p log2 logical_and logical_or
nextafter real rint round signbit sin sinh sqrt tan tanh trunc"""
)
        },

            "abs": "absolute", "acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh",
            "atan": "arctan", "atan2": "arctan2", "atanh": "arctanh", "conj": "conjugate", "neg": "negative",
            "tgamma": "gamma"
        ,
    }
)  # fmt: skip
"""Elementwise functions that uproot-raw expressions call by name."""


def arity_of(function: str) -> int:
    """How many operands an elementwise function takes."""
    return 2 if function in BINARY_UFUNCS else 1
