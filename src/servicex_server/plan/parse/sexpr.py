"""The text form of func_adl queries: s-expressions, as the `qastle` package writes them.

    (call Select (call EventDataset 'f.root' 'Events') (lambda (list e) (attr e 'MET_pt')))

The reader is a loop, not a recursion, and everything is bounded, so no text can make it misbehave.
Grammar: https://github.com/iris-hep/qastle
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from dataclasses import dataclass
from typing import NoReturn

from servicex_server.errors import QuerySyntaxError

MAX_TEXT_BYTES = 1 << 20
MAX_NODES = 20_000
MAX_NESTING = 400
MAX_DIGITS = 400


@dataclass(frozen=True, slots=True)
class Name:
    """An identifier."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, a string, True, False or None."""

    value: bool | int | float | str | None
    position: int


@dataclass(frozen=True, slots=True)
class Composite:
    """`(kind item item …)`."""

    kind: str
    items: tuple[Node, ...]
    position: int


Node = Name | Constant | Composite

_TOKEN = re.compile(
    r"""(?P<space>[\t\n\r ]+)
      | (?P<open>\([\t\n\r ]*(?P<kind>[A-Za-z]+|\*\*|//|<<|>>|==|!=|<=|>=|[-+*/%&^|~<>]))
      | (?P<close>\))
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<number>(?:[-+]?[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[Ee][-+]?[0-9]+)?)
    """,
    re.VERBOSE | re.DOTALL,
)
_CONSTANT_NAMES: dict[str, bool | None] = {"True": True, "False": False, "None": None}


def read(text: str) -> Node:
    """The one expression that the text holds.

    Raises:
        QuerySyntaxError: the text is not one well-formed expression, or exceeds a bound.
    """
    if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        _fail(f"the query is longer than {MAX_TEXT_BYTES} bytes", None)
    return _Reader(text).read()


class _Reader:
    """The loop's state: composites that are still open, and what they hold so far."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._open: list[tuple[str, int]] = []
        self._items: list[list[Node]] = [[]]
        self._n_nodes = 0

    def read(self) -> Node:
        position = 0
        is_separated = True
        while position < len(self._text):
            token = _TOKEN.match(self._text, position)
            if token is None:
                self._fail_unreadable(position)
            if token.lastgroup not in {"space", "close"} and not is_separated:
                _fail("white space is missing between two expressions", position)
            self._take(token)
            is_separated = token.lastgroup == "space"
            position = token.end()
        if self._open:
            kind, start = self._open[-1]
            _fail(f"'({kind}' is never closed", start)
        if len(self._items[0]) != 1:
            _fail("the query is empty" if not self._items[0] else "there is more than one expression", 0)
        return self._items[0][0]

    def _take(self, token: re.Match[str]) -> None:
        position = token.start()
        match token.lastgroup:
            case "space":
                return
            case "open" | "kind":
                if len(self._open) >= MAX_NESTING:
                    _fail(f"expressions are nested more than {MAX_NESTING} deep", position)
                self._open.append((token["kind"], position))
                self._items.append([])
            case "close":
                if not self._open:
                    _fail("')' closes nothing", position)
                kind, start = self._open.pop()
                items = self._items.pop()
                self._add(Composite(kind, tuple(items), start))
            case "name":
                self._add(_read_name(token["name"], position))
            case "string":
                self._add(Constant(_read_string(token["string"], position), position))
            case _:
                self._add(Constant(_read_number(token["number"], position), position))

    def _add(self, node: Node) -> None:
        self._n_nodes += 1
        if self._n_nodes > MAX_NODES:
            _fail(f"the query has more than {MAX_NODES} parts", node.position)
        self._items[-1].append(node)

    def _fail_unreadable(self, position: int) -> NoReturn:
        character = self._text[position]
        if character in "'\"":
            _fail("a string is never closed", position)
        if character == "(":
            _fail("'(' must be followed by a word or an operator", position)
        _fail(f"unexpected character {character!r}", position)


def _fail(problem: str, position: int | None, cause: Exception | None = None) -> NoReturn:
    place = "" if position is None else f" (at character {position + 1} of the query)"
    message = f"{problem}{place}"
    raise QuerySyntaxError(message, position=position) from cause


def _read_name(name: str, position: int) -> Node:
    if name in _CONSTANT_NAMES:
        return Constant(_CONSTANT_NAMES[name], position)
    if keyword.iskeyword(name):
        _fail(f"'{name}' cannot be a name", position)
    return Name(name, position)


def _read_number(text: str, position: int) -> int | float:
    if len(text) > MAX_DIGITS:
        _fail(f"a number has more than {MAX_DIGITS} characters", position)
    digits = text.lstrip("+-")
    if not digits.isdigit():
        return float(text)
    if len(digits) > 1 and digits[0] == "0" and digits.strip("0"):
        _fail("a whole number must not begin with 0", position)
    return int(text)


_ESCAPE = re.compile(
    r"\\(?:(?P<octal>[0-7]{1,3})|x(?P<x>[0-9A-Fa-f]{2})|u(?P<u>[0-9A-Fa-f]{4})|U(?P<U>[0-9A-Fa-f]{8})"
    r"|N\{(?P<name>[^}]{1,100})\}|(?P<char>.))",
    re.DOTALL,
)
_ESCAPED = {
    "\n": "", "\\": "\\", "'": "'", '"': '"', "a": "\a", "b": "\b",
    "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
}  # fmt: skip


def _read_string(text: str, position: int) -> str:
    body = text[1:-1]
    if "\0" in body or re.search(r"(?<!\\)(?:\\\\)*[\n\r]", body):
        _fail("a string must not contain line breaks or null characters", position)

    def replace(escape: re.Match[str]) -> str:
        if escape["octal"]:
            return chr(int(escape["octal"], 8))
        digits = escape["x"] or escape["u"] or escape["U"]
        try:
            if digits:
                return chr(int(digits, 16))
            if escape["name"]:
                return unicodedata.lookup(escape["name"])
        except (ValueError, KeyError, OverflowError) as error:
            _fail(f"no character is named {escape[0]}", position, error)
        if escape["char"] in "xuUN":
            _fail(f"an incomplete {escape[0]} escape in a string", position)
        return _ESCAPED.get(escape["char"], escape[0])

    return _ESCAPE.sub(replace, body)
