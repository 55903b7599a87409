"""A TTree's metadata, of which only the branches that are asked for are deserialised.

A real tree has thousands of branches, and uproot takes 0.3 ms for each. So the tree is read by uproot
without its branches, a walk finds where these lie, and uproot reads each one when it is wanted. What the
walk does not expect is left to uproot as a whole.
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import uproot
from uproot.deserialization import read_object_any
from uproot.source.cursor import Cursor

from servicex_server.errors import ServicexError
from servicex_server.run.read.skim import MAP_OFFSET, Node, NotAsExpected, Walk, paths

logger = logging.getLogger(__name__)


class TreeMetadata:
    """The branches of a tree, by name. Not for several threads at once."""

    def __init__(self, directory: Any, name: str) -> None:
        """Reads the tree of that name from uproot's `directory`."""
        self._directory = directory
        self._name = name
        self._lazy = _try_lazily(directory, name)
        self._whole: Any = None

    @property
    def tree(self) -> Any:
        """uproot's tree; it may lack its branches."""
        return self._read_whole() if self._lazy is None else self._lazy.tree

    def names(self) -> tuple[str, ...]:
        """Paths of all branches (`outer/inner`) in the order of the file."""
        if self._lazy is not None:
            return tuple(paths(self._lazy.nodes))
        return tuple(self._read_whole().keys(recursive=True, full_paths=True))

    def find(self, name: str) -> Any:
        """uproot's branch of that path, or of that name; None if there is none."""
        if self._lazy is not None:
            try:
                return self._lazy.find(name)
            except ServicexError:
                raise
            except Exception as error:  # noqa: BLE001 (decoders raise whatever the bytes lead them to)
                logger.debug("branch %r needs the whole tree %r: %s", name, self._name, error)
                self._lazy = None
        try:
            return self._read_whole()[name]
        except uproot.KeyInFileError:
            return None

    def _read_whole(self) -> Any:
        if self._whole is None:
            self._whole = self._directory[self._name]
        return self._whole


def _try_lazily(directory: Any, name: str) -> _LazyTree | None:
    try:
        return _LazyTree(directory.key(name))
    except ServicexError:
        raise
    except Exception as error:  # noqa: BLE001 (decoders raise whatever the bytes lead them to)
        logger.debug("tree %r is read as a whole: %s", name, error)
        return None


class _LazyTree:
    """A tree without its branches, where these are, and those that were read so far."""

    def __init__(self, key: Any) -> None:
        self._file = key.file
        self._chunk, cursor = key.get_uncompressed_chunk_cursor()
        self._origin = int(cursor.origin)
        self._context = {"breadcrumbs": (), "TKey": key}
        self._references = _References(self)
        self._read: dict[int, Any] = {}
        self._reading: set[int] = set()
        walk = Walk(self._chunk.raw_data.tobytes(), -self._origin)
        file = _WithoutArrays(self._file, walk)
        start = Cursor(cursor.index, self._origin, self._references)
        self.nodes: tuple[Node, ...] = ()
        self.tree = self._file.class_named(key.fClassName).read(
            self._chunk, start, dict(self._context), file, self._file, key
        )
        branches = file.skipped[0]
        self.nodes = walk.branches(branches, walk.skip_object(branches))
        self._starts = [node.start for node in self.nodes]
        self._places = _places(self.nodes)

    def find(self, name: str) -> Any:
        """uproot's branch of that path or name, or None."""
        place = self._places.get(name)
        if place is None:
            return None
        branch = self._branch(place[0])
        for number in place[1:]:
            branch = branch.branches[number]
        return branch

    def _branch(self, number: int) -> Any:
        if number not in self._read:
            node = self.nodes[number]
            cursor = Cursor(node.start, self._origin, self._references)
            self._reading.add(number)
            try:
                branch = read_object_any(
                    self._chunk, cursor, dict(self._context), self._file, self._file, self.tree
                )
            finally:
                self._reading.discard(number)
            if cursor.index != node.stop:
                message = f"branch {node.name!r} ends at {cursor.index} and not at {node.stop}"
                raise NotAsExpected(message)
            # uproot would look for it among the tree's branches.
            branch._index = number  # noqa: SLF001
            self._read[number] = branch
        return self._read[number]

    def resolve(self, reference: int) -> None:
        """Reads the branch with the object or class that is referred to, unless it is being read."""
        position = reference - MAP_OFFSET + self._origin
        number = bisect.bisect_right(self._starts, position) - 1 if self.nodes else -1
        if number >= 0 and position < self.nodes[number].stop and number not in self._reading:
            self._branch(number)


class _References(dict[int, Any]):
    """What is referred to, by its place; what lies in a branch that was not read yet is read then."""

    def __init__(self, tree: _LazyTree) -> None:
        super().__init__()
        self._tree = tree

    def __contains__(self, reference: object) -> bool:
        if super().__contains__(reference):
            return True
        if isinstance(reference, int):
            self._tree.resolve(reference)
        return super().__contains__(reference)


class _WithoutArrays:
    """uproot's file, except that a tree's arrays of branches and of leaves are hopped over."""

    def __init__(self, file: Any, walk: Walk) -> None:
        self._file = file
        self._walk = walk
        self.skipped: list[int] = []

    def class_named(self, name: str, version: Any = None) -> Any:
        if name == "TObjArray" and len(self.skipped) < 2:
            return self
        return self._file.class_named(name, version)

    def read(self, _chunk: Any, cursor: Any, *_others: Any) -> list[Any]:
        """An empty array, in place of the one at the cursor, which is moved to its end."""
        self.skipped.append(int(cursor.index))
        cursor.move_to(self._walk.skip_object(cursor.index))
        return []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _places(nodes: Sequence[Node]) -> dict[str, tuple[int, ...]]:
    """Each branch by what it may be called, in the order in which uproot looks; its number in each level."""
    found: dict[str, tuple[int, ...]] = {}
    on_top = ((node.name, (number,)) for number, node in enumerate(nodes))
    for name, place in (*on_top, *_by_path(nodes), *_by_own_name(nodes)):
        found.setdefault(name, place)
    return found


def _by_path(
    nodes: Sequence[Node], prefix: str = "", place: tuple[int, ...] = ()
) -> Iterator[tuple[str, tuple[int, ...]]]:
    for number, node in enumerate(nodes):
        yield prefix + node.name, (*place, number)
        yield from _by_path(node.children, f"{prefix}{node.name}/", (*place, number))


def _by_own_name(nodes: Sequence[Node], place: tuple[int, ...] = ()) -> Iterator[tuple[str, tuple[int, ...]]]:
    for number, node in enumerate(nodes):
        yield node.name, (*place, number)
    for number, node in enumerate(nodes):
        yield from _by_own_name(node.children, (*place, number))
