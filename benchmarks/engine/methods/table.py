"""The methods by name; what a method needs is imported only where it works."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.engine.methods.protocol import Method


@dataclass(frozen=True, slots=True)
class Entry:
    """A method that may be run.

    Attributes:
        title: head of its column in tables.
        make: makes it, in the process where it shall work.
        needs: the module that it is about, if it is not ours.
        extension: of its result file.
    """

    title: str
    make: Callable[[], Method]
    needs: str | None = None
    extension: str = ".parquet"

    def is_installed(self) -> bool:
        """Whether it can be made here."""
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


def _ours(n_threads: int) -> Method:
    from benchmarks.engine.methods.ours import Ours  # noqa: PLC0415

    return Ours(n_threads)


def _func_adl() -> Method:
    from benchmarks.engine.methods.official import FuncAdl  # noqa: PLC0415

    return FuncAdl()


def _uproot_raw() -> Method:
    from benchmarks.engine.methods.official import UprootRaw  # noqa: PLC0415

    return UprootRaw()


def _coffea() -> Method:
    from benchmarks.engine.methods.coffea import Coffea  # noqa: PLC0415

    return Coffea()


def _rdataframe(n_threads: int) -> Method:
    from benchmarks.engine.methods.rdataframe import RDataFrame  # noqa: PLC0415

    return RDataFrame(n_threads)


def _floor(*, whole_baskets: bool) -> Method:
    from benchmarks.engine.methods.floor import Floor  # noqa: PLC0415

    return Floor(whole_baskets=whole_baskets)


METHODS = {
    "ours1": Entry("ours, 1 thread", lambda: _ours(1)),
    "ours2": Entry("ours, 2 threads", lambda: _ours(2)),
    "func_adl": Entry("func_adl_uproot", _func_adl, "func_adl_uproot"),
    "uproot_raw": Entry("uproot-raw", _uproot_raw, "func_adl_uproot"),
    "coffea": Entry("coffea", _coffea, "coffea"),
    "rdf1": Entry("RDataFrame, 1 thread", lambda: _rdataframe(1), "ROOT", ".root"),
    "rdf2": Entry("RDataFrame, 2 threads", lambda: _rdataframe(2), "ROOT", ".root"),
    "floor": Entry("floor", lambda: _floor(whole_baskets=True)),
    "floor_content": Entry("floor, contents only", lambda: _floor(whole_baskets=False)),
}
