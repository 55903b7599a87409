"""Every construct that func_adl_uproot handles has a row in docs/func_adl.md, and every row tells the truth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from qastle.linq_util import linq_operator_names
from vector.backends.awkward import MomentumArray4D

from func_adl_oracle import assert_same, assert_schema_fits, func_adl_uproot, ours, theirs, to_text
from servicex_server.errors import QueryError
from servicex_server.plan import function
from servicex_server.plan.parse.builtin import BUILTIN_NAMES
from servicex_server.plan.parse.collection import OPERATOR_NAMES
from servicex_server.plan.vector import METHODS, PROPERTIES

DOCUMENT = Path(__file__).parents[2] / "docs" / "func_adl.md"


@dataclass(frozen=True)
class Row:
    """One row of the tables."""

    construct: str
    example: str
    here: str


def rows() -> Iterator[Row]:
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[1].startswith("`"):
            yield Row(cells[0], cells[1].strip("`"), cells[2])


ROWS = tuple(rows())


def floats(values: list[list[float]]) -> ak.Array:
    return ak.values_astype(ak.Array(values), np.float32)


EVENTS = ak.zip(
    {
        "MET_pt": np.array([25.0, 12.5, 1.0, 40.0], np.float32),
        "MET_phi": np.array([0.5, -2.0, 3.0, 1.0], np.float32),
        "nMuon": np.array([2, 0, 1, 3], np.int32),
        "HLT_mu": np.array([True, False, True, True]),
        "Muon_pt": floats([[10, 30], [], [25], [11, 45, 13]]),
        "Muon_eta": floats([[1, -2], [], [0.25], [0.5, -0.5, 2]]),
        "Muon_phi": floats([[1, 2], [], [-3], [0, 1, 3]]),
        "Muon_mass": floats([[0.1, 0.1], [], [0.1], [0.1, 0.1, 0.1]]),
        "Muon_charge": ak.values_astype(ak.Array([[1, -1], [], [1], [1, 1, -1]]), np.int32),
        "Muon_hits": ak.Array([[[1, 2], [3]], [], [[]], [[4], [], [5, 6]]]),
        "Electron_pt": floats([[5], [15, 20], [], [30]]),
        "Electron_charge": ak.values_astype(ak.Array([[1], [1, -1], [], [-1]]), np.int32),
    },
    depth_limit=1,
)


def text_of(example: str) -> str:
    momenta = next(row.example for row in ROWS if row.construct == "ToFourMomenta")
    return to_text(re.sub(r"^muons", momenta, example) if example.startswith("muons") else example)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.construct)
def test_the_table_is_true(row: Row) -> None:
    text = text_of(row.example)
    if row.here == "refused":
        with pytest.raises(QueryError) as caught:
            ours(text, EVENTS)
        assert "\n" not in caught.value.message
        assert "character" in caught.value.message
        return
    result, output = ours(text, EVENTS)
    if not row.example.endswith(".Max()"):
        assert_schema_fits(output, result)
    if row.here == "more":
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the package stumbles over
            theirs(text, EVENTS)
        return
    expected = theirs(text, EVENTS)
    if row.here == "differs":
        assert result.to_list() != expected.to_list()
        return
    assert row.here == "same"
    if row.example.endswith(".Max()") and ").Select" not in row.example:
        result = ak.drop_none(result)
    assert_same(result, expected)


def test_every_node_that_the_package_visits_has_a_row() -> None:
    visited = {
        name.removeprefix("visit_")
        for name in vars(func_adl_uproot.transformer.PythonSourceGeneratorTransformer)
        if name.startswith("visit_")
    }
    words = {word for row in ROWS for word in re.findall(r"\w+", row.construct)}
    assert {*visited, *linq_operator_names} <= words
    assert {*OPERATOR_NAMES, *BUILTIN_NAMES} <= words


def test_every_member_of_the_packages_vectors_is_known() -> None:
    members = {name for name in set(dir(MomentumArray4D)) - set(dir(ak.Array)) if not name.startswith("_")}
    not_values = {"allclose", "azimuthal", "longitudinal", "temporal", "lib", "GenericClass", "MomentumClass"}
    assert members == {*PROPERTIES, *METHODS, *not_values, *(f"ProjectionClass{n}D" for n in (2, 3, 4))}


def test_every_elementwise_function_of_numpy_is_known() -> None:
    names = {
        name
        for name, ufunc in vars(np).items()
        if isinstance(ufunc, np.ufunc) and ufunc.nout == 1 and ufunc.signature is None
    }
    of_times = {"isnat"}
    assert names - of_times <= set(function.NUMPY_FUNCTIONS)
