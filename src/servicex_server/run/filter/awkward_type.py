"""An output without rows, and awkward's types as ours."""

from __future__ import annotations

import awkward as ak

from servicex_server.plan.awkward_type import from_awkward, to_form
from servicex_server.plan.plan import BoundOutput
from servicex_server.plan.types import Record

__all__ = ["empty_rows", "from_awkward"]


def empty_rows(output: BoundOutput) -> ak.Array:
    """No rows, of exactly the type that evaluating the output gives; needs no columns.

    Raises:
        QueryTypeError: a column's type is not known.
    """
    if output.is_unnamed:
        (column,) = output.schema.values()
    else:
        is_tuple = list(output.schema) == [str(number) for number in range(len(output.schema))]
        column = Record(tuple(output.schema.items()), is_tuple=is_tuple)
    return ak.Array(to_form(column).length_zero_array(highlevel=False))
