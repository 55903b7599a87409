"""What each result format can hold. Pure: decided from types, so that it shows before any data is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from servicex_server.errors import FormatError
from servicex_server.model.kinds import ResultFormat
from servicex_server.plan.plan import UNNAMED_COLUMN, BoundPlan
from servicex_server.plan.types import Bool, List, Number, Option, Record, String, Type, Unknown

ROOT_UNNAMED_BRANCH = "branch"
"""The branch of a result without field names, as the official transformers name it."""

_ROOT_NUMBERS = frozenset(
    ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")
)
_PARQUET_NUMBERS = _ROOT_NUMBERS | {"float16"}
_ROOT = (ResultFormat.ROOT_FILE, ResultFormat.ROOT_RNTUPLE)
_ONE_TABLE = (ResultFormat.PARQUET, ResultFormat.ARROW)


def check_format(bound: BoundPlan, result_format: ResultFormat) -> None:
    """Raises FormatError, with the names of the columns, if the result does not fit the format."""
    if bound.copied_objects and result_format not in _ROOT:
        names = ", ".join(bound.copied_objects[:5])
        hint = "ask for root-file or root-rntuple"
        message = f"{result_format.value} cannot hold copied objects ({names}); {hint}"
        raise FormatError(message)
    if result_format in _ONE_TABLE:
        why = f"{result_format.value} keeps all trees in one table"
        check_equal([output.schema for output in bound.outputs], why)
    by_tree: dict[str, list[Mapping[str, Type]]] = {}
    for output in bound.outputs:
        check_columns(output.schema, result_format)
        by_tree.setdefault(output.output_tree, []).append(output.schema)
    for name, schemas in by_tree.items():
        check_equal(schemas, f"several results go into the tree {name!r}")
    if result_format is ResultFormat.HDF5:
        check_trees(list(by_tree))


def check_columns(schema: Mapping[str, Type], result_format: ResultFormat) -> None:
    """Raises FormatError for columns of types that the format cannot hold."""
    holds = {
        ResultFormat.PARQUET: _parquet_holds,
        ResultFormat.ROOT_FILE: _ttree_holds,
        ResultFormat.ROOT_RNTUPLE: _rntuple_holds,
        ResultFormat.ARROW: _parquet_holds,
        ResultFormat.HDF5: _hdf5_holds,
    }[result_format]
    misfits = [f"{name or 'the result'} ({kind})" for name, kind in schema.items() if not holds(kind)]
    if misfits:
        message = f"{result_format.value} cannot hold {', '.join(misfits[:10])}{_hint(result_format)}"
        raise FormatError(message)
    if result_format is ResultFormat.ROOT_FILE:
        _check_branches(schema)
    if result_format is ResultFormat.HDF5:
        _check_links(tuple(schema.items()))


def check_equal(schemas: Sequence[Mapping[str, Type]], why: str) -> None:
    """Raises FormatError if tables that end up in one differ."""
    for schema in schemas[1:]:
        first = schemas[0]
        if list(schema) != list(first):
            odd = sorted(set(schema) ^ set(first))[:10] or list(schema)[:10]
            message = (
                f"{why}, so all must have the same columns in the same order; these differ: {', '.join(odd)}"
            )
            raise FormatError(message)
        different = [name for name in schema if schema[name] != first[name]]
        if different:
            texts = [f"{name} ({first[name]} and {schema[name]})" for name in different[:10]]
            message = f"{why}, so all must have the same types; not so {', '.join(texts)}"
            raise FormatError(message)


def ttree_branches(schema: Mapping[str, Type]) -> dict[str, tuple[str, ...]]:
    """Names of the branches that each column becomes in a TTree, without counters."""
    found: dict[str, tuple[str, ...]] = {}
    for name, kind in schema.items():
        fields = _flat_fields(kind)
        if not fields:
            found[name] = (ROOT_UNNAMED_BRANCH if name == UNNAMED_COLUMN else name,)
        elif name == UNNAMED_COLUMN:
            # Records without a name around them need none.
            found[name] = tuple(field for field, _ in fields)
        else:
            found[name] = tuple(f"{name}_{field}" for field, _ in fields)
    return found


def check_trees(names: Sequence[str]) -> None:
    """Raises FormatError if the group of a tree would be that of another tree, or lie inside it."""
    trees: dict[str, str] = {}
    for name in names:
        other = trees.setdefault(hdf5_tree_name(name), name)
        if other != name:
            message = f"the trees {other!r} and {name!r} would share a group of an HDF5 file"
            raise FormatError(message)
    for path, name in trees.items():
        outer = next((above for above in _folders(path) if above in trees), None)
        if outer is not None:
            message = f"the tree {name!r} would lie inside the tree {trees[outer]!r} in an HDF5 file"
            raise FormatError(message)


def _folders(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def hdf5_tree_name(tree: str) -> str:
    """Name of the group for a tree: folders of a ROOT file become groups.

    >>> hdf5_tree_name("/folder/Events")
    'folder/Events'
    """
    return "/".join(hdf5_name(part) for part in tree.split("/") if part) or hdf5_name("")


def hdf5_name(name: str) -> str:
    """The name under which HDF5 takes a column or field; its own names hold no `/`, and `.` means the group.

    >>> hdf5_name("a/b")
    'a:b'
    """
    link = name.replace("/", ":").replace("\0", "_").encode(errors="replace").decode()
    return f"_{link}" if link in {"", ".", ".."} else link


def _check_links(fields: Sequence[tuple[str, Type]]) -> None:
    seen: dict[str, str] = {}
    for name, kind in fields:
        link = hdf5_name(name or ROOT_UNNAMED_BRANCH)
        if link in seen:
            message = f"the columns {seen[link]} and {name} would both have the name {link} in an HDF5 file"
            raise FormatError(message)
        seen[link] = name
        inner = kind
        while isinstance(inner, List | Option):
            inner = inner.content
        if isinstance(inner, Record):
            _check_links(inner.fields)


def _flat_fields(kind: Type) -> tuple[tuple[str, Type], ...]:
    if isinstance(kind, List):
        kind = kind.content
    return kind.fields if isinstance(kind, Record) else ()


def _check_branches(schema: Mapping[str, Type]) -> None:
    seen: dict[str, str] = {}
    for column, branches in ttree_branches(schema).items():
        for branch in branches:
            if branch in seen:
                message = f"the columns {seen[branch]} and {column} would both become the branch {branch}"
                raise FormatError(message)
            seen[branch] = column


def _hint(result_format: ResultFormat) -> str:
    if result_format is ResultFormat.ROOT_FILE:
        takes = "numbers, text, and lists of numbers or of records of numbers"
        return f"; a TTree takes {takes} (root-rntuple takes more)"
    return ""


def _ttree_holds(kind: Type) -> bool:
    match kind:
        case String():
            return True
        case Record(fields=fields):
            return bool(fields) and all(_is_block(content) for _, content in fields)
        case List(content=Record(fields=fields), size=None):
            return bool(fields) and all(_is_root_scalar(content) for _, content in fields)
        case List(content=content, size=None):
            return _is_root_scalar(content)
    return _is_block(kind)


def _is_block(kind: Type) -> bool:
    """A number, or an array of numbers of fixed shape."""
    while isinstance(kind, List) and kind.size is not None:
        kind = kind.content
    return _is_root_scalar(kind)


def _is_root_scalar(kind: Type) -> bool:
    return isinstance(kind, Bool) or (isinstance(kind, Number) and kind.dtype in _ROOT_NUMBERS)


def _rntuple_holds(kind: Type) -> bool:
    match kind:
        case String():
            return True
        case List(content=content):
            return _rntuple_holds(content)
        case Option(content=content):
            # uproot writes an optional record as a list of records.
            return not isinstance(content, Record) and _rntuple_holds(content)
        case Record(fields=fields):
            return bool(fields) and all(_rntuple_holds(content) for _, content in fields)
    return _is_root_scalar(kind)


def _hdf5_holds(kind: Type) -> bool:
    match kind:
        case Number(dtype=dtype):
            return dtype in _PARQUET_NUMBERS
        case List(content=content) | Option(content=content):
            return _hdf5_holds(content)
        case Record(fields=fields):
            return bool(fields) and all(_hdf5_holds(content) for _, content in fields)
    return isinstance(kind, Bool | String)


def _parquet_holds(kind: Type) -> bool:
    match kind:
        case Number(dtype=dtype):
            return dtype in _PARQUET_NUMBERS
        case List(content=content) | Option(content=content):
            return _parquet_holds(content)
        case Record(fields=fields):
            return bool(fields) and all(_parquet_holds(content) for _, content in fields)
        case Unknown(typename=typename):
            # The type of lists that are always empty; Parquet has a type of nulls for it.
            return typename == "unknown"
    return True
