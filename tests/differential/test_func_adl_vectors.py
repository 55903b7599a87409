"""Every property and method of four-momenta, in several coordinates, as func_adl_uproot gives it."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

from func_adl_oracle import assert_same, assert_schema_fits, ours, theirs, to_text
from servicex_server.errors import QueryTypeError
from servicex_server.plan.vector import MATRIX_METHODS, METHODS, PROPERTIES

COUNTS = [2, 0, 1, 3]
SYSTEMS = {
    "polar, float32": (("pt", "eta", "phi", "mass"), "float32"),
    "Cartesian, int32": (("x", "y", "z", "t"), "int32"),
    "theta and tau": (("rho", "phi", "theta", "tau"), "float64"),
}
ARGUMENTS = {
    **dict.fromkeys(("like",), ("ps.to_Vector2D()",)),
    **dict.fromkeys(("boost_beta3", "boostCM_of_beta3"), ("ps.to_Vector3D()",)),
    **dict.fromkeys(("boostX", "boostY", "boostZ", "rotateX", "rotateY", "rotateZ"), ("0.25",)),
    **dict.fromkeys(("scale", "scale2D", "scale3D", "scale4D"), ("2.5",)),
    "rotate_axis": ("ps.to_Vector3D()", "0.5"),
    "rotate_euler": ("0.1", "0.2", "0.3", "'xyz'"),
    "rotate_nautical": ("0.1", "0.2", "0.3"),
    "rotate_quaternion": ("1", "0.5", "0.25", "0.125"),
    **{
        name: ("{" + ", ".join(f"'{key}': {i / 4}" for i, key in enumerate(keys)) + "}",)
        for name, keys in MATRIX_METHODS.items()
    },
}  # fmt: skip
OF_3D = frozenset({"cross"})
OPERATORS = ("ps + ps", "ps - ps", "2 * ps", "ps * 0.5", "ps / 2", "-ps", "+ps", "ps == ps", "ps != ps",
             "abs(ps)", "ps ** 2", "ps ** 3", "np.sqrt(ps)", "np.cbrt(ps)", "np.square(ps)")  # fmt: skip


def table(system: str) -> tuple[str, ak.Array]:
    """The text of four-momenta in these coordinates, and rows to make them of."""
    names, dtype = SYSTEMS[system]
    random = np.random.default_rng(7)
    columns = {
        name: ak.unflatten(random.integers(1, 6, sum(COUNTS)).astype(dtype), COUNTS) for name in names
    } | {"charge": ak.unflatten(random.integers(-1, 2, sum(COUNTS)), COUNTS)}
    fields = ", ".join(f"'{name}': e.{name}" for name in columns)
    return f"Zip({{{fields}}}).ToFourMomenta()", ak.zip(columns, depth_limit=1)


def call(method: str) -> str:
    source = "ps.to_Vector3D()" if method in OF_3D else "ps"
    least, _ = METHODS[method]
    arguments = ARGUMENTS.get(method, (source,) * least)
    return f"{source}.{method}({', '.join(arguments)})"


def compare(system: str, parts: list[str]) -> None:
    momenta, rows = table(system)
    columns = ", ".join(f"'c{i}': {part}" for i, part in enumerate(parts))
    text = to_text(f"events.Select(lambda e: {momenta}).Select(lambda ps: {{{columns}}})")
    expected = theirs(text, rows)
    result, output = ours(text, rows, n_chunks=2)
    assert_same(result, expected)
    assert_schema_fits(output, result)


@pytest.mark.parametrize("system", SYSTEMS)
def test_properties(system: str) -> None:
    compare(system, [f"ps.{name}" for name in sorted(PROPERTIES)])


@pytest.mark.parametrize("system", SYSTEMS)
def test_methods(system: str) -> None:
    compare(system, [call(name) for name in sorted(METHODS)])


@pytest.mark.parametrize("system", SYSTEMS)
def test_operators(system: str) -> None:
    compare(system, [*OPERATORS, "ps.Sum()", "ps.Count()", "ps.OrderBy(lambda p: p.px)", "ps.Concat(ps)"])


@pytest.mark.parametrize(
    "body",
    ["ps.boost(1)", "ps.deltaR(ps.charge)", "ps < ps", "ps * ps", "ps // 2", "ps.Max()", "ps.nothing",
     "ps.charge.px", "ps.charge.deltaR(ps)", "ps.to_Vector2D().mass", "ps.rotate_euler(1, 2, 3, 'abc')"],
)  # fmt: skip
def test_what_vectors_cannot_do_is_explained(body: str) -> None:
    momenta, rows = table("polar, float32")
    text = to_text(f"events.Select(lambda e: {momenta}).Select(lambda ps: {body})")
    with pytest.raises(QueryTypeError, match="at character") as caught:
        ours(text, rows)
    assert "\n" not in caught.value.message
