"""Arrays of uproot whose buffers contradict each other."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
import pytest

from servicex_server.run.read.checked import checked

NUMBERS = ak.contents.NumpyArray(np.arange(4.0))


def lists(*offsets: int) -> Any:
    return ak.contents.ListOffsetArray(ak.index.Index64(np.array(offsets)), NUMBERS)


def union(tags: list[int], index: list[int], *contents: Any) -> Any:
    """As uproot makes them: an option around each alternative."""
    options = [ak.contents.UnmaskedArray(content) for content in contents]
    return ak.contents.UnionArray(
        ak.index.Index8(np.array(tags, np.int8)), ak.index.Index64(np.array(index)), options
    )


GOOD = union([0, 1, 0], [0, 0, 3], NUMBERS, lists(0, 2))


@pytest.mark.parametrize(
    "layout",
    [
        NUMBERS,
        lists(0, 2, 4),
        GOOD,
        ak.contents.ListOffsetArray(ak.index.Index64(np.array([0, 3])), GOOD),
        ak.contents.RecordArray([GOOD, NUMBERS], ["a", "b"]),
        ak.contents.UnmaskedArray(lists(0, 1)),
    ],
)
def test_good_arrays_stay_what_they_are(layout: Any) -> None:
    array = ak.Array(layout)
    assert checked(array, len(array)) is array
    with pytest.raises(ValueError, match=f"it has {len(array)} entries where 99 are due"):
        checked(array, 99)


@pytest.mark.parametrize(
    "layout",
    [
        lists(0, 9),
        lists(0, 3, 1),
        ak.contents.RecordArray([lists(0, 9)], ["a"]),
        union([0, 1], [0, 5], NUMBERS, lists(0, 2)),
        union([0, 1], [0, -1], NUMBERS, lists(0, 2)),
        union([0, 2], [0, 0], NUMBERS, lists(0, 2)),
        union([0, -1], [0, 0], NUMBERS, lists(0, 2)),
        union([0, 1], [0, 0], NUMBERS, lists(0, 9)),
        ak.contents.ListOffsetArray(ak.index.Index64(np.array([0, 7])), GOOD),
        ak.contents.ListOffsetArray(
            ak.index.Index64(np.array([0, 1])), union([0], [9], NUMBERS, lists(0, 2))
        ),
    ],
)
def test_lists_that_lead_out_of_their_content_are_found(layout: Any) -> None:
    array = ak.Array(layout)
    with pytest.raises(ValueError, match="its lists make no sense"):
        checked(array, len(array))
