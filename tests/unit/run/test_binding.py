from __future__ import annotations

import gc
import weakref

import pytest

from servicex_server.errors import UnknownName
from servicex_server.plan.bind import bind
from servicex_server.plan.parse import parse
from servicex_server.plan.plan import Plan
from servicex_server.plan.schema import MemoryFile, MemoryTree
from servicex_server.plan.types import List, Number
from servicex_server.run.binding import bind_to_file

PT = List(Number("float32"))


def a_plan() -> Plan:
    text = "(call Select (call EventDataset 'any' 'Events') (lambda (list e) (attr e 'Muon_pt')))"
    return parse("uproot", text, tree_name=None)


def a_file(n_entries: int = 10, *, more: str = "run") -> MemoryFile:
    return MemoryFile((MemoryTree("Events", {"Muon_pt": PT, more: Number("uint32")}, n_entries),))


def test_a_file_that_looks_the_same_gets_the_same_object() -> None:
    plan = a_plan()

    first = bind_to_file(plan, a_file(10))

    assert bind_to_file(plan, a_file(20)) is first
    assert first.outputs[0].schema == bind(plan, a_file()).outputs[0].schema == {"": PT}


def test_another_type_or_another_set_of_branches_is_bound_anew() -> None:
    plan = a_plan()
    first = bind_to_file(plan, a_file())
    doubles = MemoryFile((MemoryTree("Events", {"Muon_pt": List(Number("float64"))}),))

    second = bind_to_file(plan, doubles)

    assert second.outputs[0].schema == {"": List(Number("float64"))}
    assert bind_to_file(plan, a_file(more="event")) is not first
    # The first kind is still known.
    assert bind_to_file(plan, a_file()) is first


def test_a_file_without_the_branch_or_the_tree_is_refused_as_the_first_would_be() -> None:
    plan = a_plan()
    bind_to_file(plan, a_file())

    with pytest.raises(UnknownName, match="Muon_pt"):
        bind_to_file(plan, MemoryFile((MemoryTree("Events", {"Muon_ptt": PT}),)))
    with pytest.raises(UnknownName, match="Events"):
        bind_to_file(plan, MemoryFile((MemoryTree("Runs", {"Muon_pt": PT}),)))
    with pytest.raises(UnknownName, match="Muon_pt"):
        bind_to_file(plan, MemoryFile((MemoryTree("Events", {"Muon_ptt": PT}),)))


def test_what_is_remembered_belongs_to_one_plan() -> None:
    first, second = a_plan(), a_plan()

    assert bind_to_file(first, a_file()) is not bind_to_file(second, a_file())


def test_few_kinds_of_files_are_remembered() -> None:
    plan = a_plan()
    kinds = [a_file(more=f"HLT_{number}") for number in range(6)]
    bound = [bind_to_file(plan, kind) for kind in kinds]

    assert bind_to_file(plan, kinds[-1]) is bound[-1]
    assert bind_to_file(plan, kinds[0]) is not bound[0]


def test_a_file_is_not_kept_for_what_was_asked_of_it() -> None:
    class Tree(MemoryTree):
        """A tree whose end can be told; it answers as any other."""

    plan = a_plan()
    tree = Tree("Events", {"Muon_pt": PT})
    end = weakref.ref(tree)
    bound = bind_to_file(plan, MemoryFile((tree,)))
    del tree
    gc.collect()

    assert end() is None
    assert bind_to_file(plan, MemoryFile((MemoryTree("Events", {"Muon_pt": PT}),))) is bound
