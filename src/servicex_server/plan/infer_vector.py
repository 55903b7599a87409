"""The type that each operation on vectors gives."""

from __future__ import annotations

from collections.abc import Sequence

from servicex_server.plan import infer
from servicex_server.plan.infer import Operand, Weak, fail
from servicex_server.plan.ir import Scalar
from servicex_server.plan.types import Record, Type, leaf_of
from servicex_server.plan.vector import METHODS, REDUCERS, UFUNCS


def is_vector(operand: Operand) -> bool:
    """Whether the innermost values are vectors."""
    leaf = None if isinstance(operand, Weak) else leaf_of(operand)
    return isinstance(leaf, Record) and leaf.name is not None


def type_of_vectors(records: Type, kind: str) -> Type:
    """The type of records that become vectors."""
    record = leaf_of(records)
    if not isinstance(record, Record) or record.is_tuple:
        what = infer.describe(record)
        fail(f"vectors are made of records with fields such as pt, eta, phi, mass, not of {what}")
    return infer.map_leaf(records, lambda _: Record(record.fields, name=kind))


def type_of_member(name: str, arguments: Sequence[Operand]) -> Type:
    """The type of a property, or of a method called with the arguments after the first."""
    if not is_vector(arguments[0]):
        what = infer.describe(leaf_of(infer.strong(arguments[0])))
        fail(f"it needs vectors, made by ToFourMomentum() or ToFourMomenta(), not {what}")
    from servicex_server.plan import vector_type  # noqa: PLC0415 - brings awkward, for queries with vectors only

    return vector_type.type_of_member(name, _plain(arguments), is_method=name in METHODS)


def type_of_apply(function: str, operands: Sequence[Operand]) -> Type:
    """The type of an elementwise function of which some operands are vectors."""
    if function not in UFUNCS:
        fail("it does not apply to vectors")
    from servicex_server.plan import vector_type  # noqa: PLC0415 - as above

    return vector_type.type_of_ufunc(function, _plain(operands))


def type_of_reducer(function: str, value: Type, axis: int) -> Type:
    """The type of a reduction of vectors over one axis."""
    if function not in REDUCERS:
        fail("it does not apply to vectors")
    from servicex_server.plan import vector_type  # noqa: PLC0415 - as above

    return vector_type.type_of_reducer(function, value, axis)


def _plain(operands: Sequence[Operand]) -> tuple[Type | Scalar, ...]:
    return tuple(operand.value if isinstance(operand, Weak) else operand for operand in operands)
