"""Query text in, plan out: one front end per query language, chosen by the name of the code generator."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from servicex_server.errors import QuerySyntaxError, UnknownCodegen
from servicex_server.plan.parse import sexpr
from servicex_server.plan.parse.python import read_script
from servicex_server.plan.parse.qastle import lower_query
from servicex_server.plan.parse.tcut import read_selection
from servicex_server.plan.parse.uproot_raw import read_queries
from servicex_server.plan.plan import Plan

__all__ = ["CODEGENS", "parse"]

CODEGENS: Mapping[str, str] = MappingProxyType(
    {
        "uproot": "func_adl queries (qastle text) on TTrees and RNTuples",
        "uproot-raw": "uproot expressions, cuts and filters (JSON) on TTrees and RNTuples",
        "tcut": "TCut selections (text, or JSON with columns) on TTrees and RNTuples",
        "python": "a Python function run_query(file_path) that returns arrays, run in a sandbox",
    }
)
"""What this server offers, by the name that clients use."""

_XAOD = (
    "it generates C++ for ATLAS releases and needs a deployment with the official xAOD code generator and "
    "its AnalysisBase image; DAOD_PHYSLITE files can be read with 'uproot' and 'uproot-raw'"
)
_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "atlasr21": _XAOD,
        "atlasr22": _XAOD,
        "atlasr25": _XAOD,
        "atlasxaod": _XAOD,
        "cms": "it generates C++ for CMSSW, which needs the official CMS code generator and its CMSSW image",
        "cms-run-1-aod": "it generates C++ for CMSSW, which needs the official CMS code generator and image",
        "topcp": "it runs TopCPToolkit, which needs the official TopCP code generator and its image",
    }
)


def parse(codegen: str, selection: str, *, tree_name: str | None = None) -> Plan:
    """The plan that a selection text asks for.

    Args:
        codegen: the code generator, one of `CODEGENS`.
        selection: the query in the generator's language.
        tree_name: the tree to read where the query itself names none.

    Raises:
        UnknownCodegen: there is no such generator here; tells what it would need.
        QuerySyntaxError: the text does not parse.
        UnsupportedQuery: it parses, but uses something that this server does not execute.
    """
    if codegen not in CODEGENS:
        raise _unknown_codegen(codegen)
    if codegen == "uproot":
        return Plan(codegen, (lower_query(_read_qastle(selection), tree_name),))
    if not selection.strip():
        message = "the query is empty"
        raise QuerySyntaxError(message, position=0)
    if codegen == "tcut":
        return Plan(codegen, (read_selection(selection, tree_name),))
    if codegen == "python":
        return Plan(codegen, (read_script(selection),))
    return Plan(codegen, read_queries(selection, tree_name))


def _read_qastle(selection: str) -> sexpr.Node:
    try:
        return sexpr.read(selection)
    except QuerySyntaxError as error:
        if not selection.strip() or selection.lstrip().startswith("("):
            raise
        # Most likely the Python from which the client makes the text.
        message = f"{error.message}; a func_adl query is sent as qastle text, which begins with '('"
        raise QuerySyntaxError(message, position=error.position) from error


def _unknown_codegen(codegen: str) -> UnknownCodegen:
    offered = ", ".join(CODEGENS)
    if codegen in _ELSEWHERE:
        reason = _ELSEWHERE[codegen]
        message = f"the code generator '{codegen}' is not available here: {reason}. Available: {offered}"
    else:
        message = f"there is no code generator '{codegen:.100}'. Available: {offered}"
    return UnknownCodegen(message)
