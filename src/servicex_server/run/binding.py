"""A plan bound to a file, remembered for the next file that gives the same answers.

The files of a data set are alike: to bind a plan to the thousandth of them takes as long as the first time,
and finds the same. So what the binding asked of the first file is written down with the answers; the next
file is asked the same, and if it answers alike, the plan is bound already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from servicex_server.plan.bind import bind
from servicex_server.plan.plan import BoundPlan, Plan
from servicex_server.plan.schema import FileSchema, TreeSchema
from servicex_server.plan.types import Type
from servicex_server.run.remembered import MOST_PLANS, Remembered

_MOST_KINDS = 4
"""Of files per plan: those of another year may have other branches."""

T = TypeVar("T")


def bind_to_file(plan: Plan, file: FileSchema) -> BoundPlan:
    """The plan bound to the file, as `bind` does it; the same object for files that look the same to it.

    Raises:
        QueryError: as `bind` does.
    """
    known = _known.get(plan) or ()
    for kind in known:
        if kind.fits(file):
            return kind.bound
    witness = _Witness(file)
    kind = _Kind(witness.questions, bind(plan, witness))
    _known.put(plan, (kind, *known[: _MOST_KINDS - 1]))
    return kind.bound


@dataclass(frozen=True, slots=True)
class _Question:
    """Something that was asked of a file, and its answer."""

    ask: Callable[[FileSchema], object]
    answer: object


@dataclass(frozen=True, slots=True)
class _Kind:
    """Files that give these answers, and what a plan is for them."""

    questions: Sequence[_Question]
    bound: BoundPlan

    def fits(self, file: FileSchema) -> bool:
        # In the order in which they were asked: a tree is asked only if there is one of that name.
        return all(question.ask(file) == question.answer for question in self.questions)


class _Witness:
    """A file that writes down what it is asked."""

    def __init__(self, file: FileSchema) -> None:
        self.questions: list[_Question] = []
        self._file = file

    def tree_names(self) -> Sequence[str]:
        return self.note(lambda file: tuple(file.tree_names()))

    def tree(self, name: str) -> TreeSchema:
        return _WitnessTree(name, self)

    def objects(self) -> Mapping[str, str]:
        return self.note(lambda file: dict(file.objects()))

    def note(self, ask: Callable[[FileSchema], T]) -> T:
        answer = ask(self._file)
        self.questions.append(_Question(ask, answer))
        return answer


class _WitnessTree:
    """One of its trees."""

    def __init__(self, name: str, file: _Witness) -> None:
        self._name = name
        self._file = file

    @property
    def name(self) -> str:
        return self._name

    @property
    def n_entries(self) -> int:
        return self._note(lambda tree: tree.n_entries)

    def names(self) -> Sequence[str]:
        return self._note(lambda tree: tuple(tree.names()))

    def type_of(self, name: str) -> Type:
        return self._note(lambda tree: tree.type_of(name))

    def typename_of(self, name: str) -> str:
        return self._note(lambda tree: tree.typename_of(name))

    def _note(self, ask: Callable[[TreeSchema], T]) -> T:
        # Questions outlive the file that they were first asked of, so they must not hold on to it.
        tree_name = self._name
        return self._file.note(lambda file: ask(file.tree(tree_name)))


_known: Remembered[Plan, tuple[_Kind, ...]] = Remembered(MOST_PLANS)
