"""Regular expressions over names that cannot be made to hang.

Users send patterns; Python's `re` backtracks, and some patterns take it for ever. This matcher follows all
alternatives at once (Thompson's construction), so its time is the product of the lengths of pattern and
name. It knows the syntax of `re` except what needs backtracking: back-references and look-behind.
https://swtch.com/~rsc/regexp/regexp1.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from servicex_server.errors import QuerySyntaxError, UnsupportedQuery

MAX_PATTERN = 500
MAX_STATES = 5_000
"""Of one pattern, what it looks ahead for included."""
MAX_QUERY_STATES = 20_000
"""Of all patterns that share a budget."""
MAX_NESTING = 50
MAX_CACHE = 20_000

Accepts = Callable[[str], bool]


@dataclass(slots=True)
class _State:
    """A place in the pattern: eats a character, or goes on without, or asks about the position."""

    accepts: Accepts | None = None
    condition: Callable[[str, int], bool] | None = None
    targets: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of the automaton with one way in and one way out."""

    start: int
    end: int


@dataclass(slots=True)
class Budget:
    """States that may still be made; handed from pattern to pattern, it bounds all of a query together."""

    states: int = MAX_QUERY_STATES

    def spend(self, states: int) -> None:
        """Takes states away.

        Raises:
            UnsupportedQuery: so many are not left.
        """
        self.states -= states
        if self.states < 0:
            message = "the patterns of the query are too large, all together"
            raise UnsupportedQuery(message)


class Regex:
    """A compiled pattern."""

    def __init__(self, pattern: str, flags: str = "", budget: Budget | None = None) -> None:
        """Compiles the pattern.

        Args:
            budget: what all patterns of a query may spend; without one, only this pattern's size is bounded.

        Raises:
            QuerySyntaxError: it is malformed.
            UnsupportedQuery: it is too long or uses what this matcher does not know.
        """
        self._automaton = _Parser(pattern, flags, budget or Budget()).read()

    def match(self, text: str) -> bool:
        """Whether the pattern matches at the beginning of the text."""
        return self._automaton.match_at(text, 0)


class _Automaton:
    """States that are followed all at once."""

    def __init__(self, states: list[_State], whole: _Piece) -> None:
        self._states = states
        self._start, self._end = whole.start, whole.end
        self._has_conditions = any(state.condition for state in states)
        self._cache: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def match_at(self, text: str, position: int) -> bool:
        """Whether the pattern matches at a position."""
        current = self._close({self._start}, text, position)
        while self._end not in current:
            if not current or position >= len(text):
                return False
            current = self._advance(current, text, position)
            position += 1
        return True

    def _advance(self, current: frozenset[int], text: str, position: int) -> frozenset[int]:
        key = (current, text[position])
        if not self._has_conditions and key in self._cache:
            return self._cache[key]
        following = set()
        for index in current:
            state = self._states[index]
            if state.accepts is not None and state.accepts(text[position]):
                following.update(state.targets)
        closed = self._close(following, text, position + 1)
        if len(self._cache) > MAX_CACHE:
            self._cache.clear()
        self._cache[key] = closed
        return closed

    def _close(self, states: set[int], text: str, position: int) -> frozenset[int]:
        """All states reachable without eating a character."""
        reached = set(states)
        waiting = list(states)
        while waiting:
            state = self._states[waiting.pop()]
            if state.accepts is not None:
                continue
            if state.condition is not None and not state.condition(text, position):
                continue
            fresh = [target for target in state.targets if target not in reached]
            reached.update(fresh)
            waiting.extend(fresh)
        return frozenset(reached)


_CLASSES: dict[str, Accepts] = {
    "d": str.isdigit,
    "w": lambda char: char.isalnum() or char == "_",
    "s": str.isspace,
    "D": lambda char: not char.isdigit(),
    "W": lambda char: not (char.isalnum() or char == "_"),
    "S": lambda char: not char.isspace(),
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}


class _Parser:
    """Recursive descent over the pattern, which builds the states as it goes."""

    def __init__(self, pattern: str, flags: str, budget: Budget) -> None:
        if len(pattern) > MAX_PATTERN:
            message = f"a regular expression is longer than {MAX_PATTERN} characters"
            raise UnsupportedQuery(message)
        self._pattern = pattern
        self._position = 0
        self._depth = 0
        self._is_looking_ahead = False
        self._states: list[_State] = []
        self._n_states = 0
        self._budget = budget
        self._set_flags(flags)

    def _set_flags(self, flags: str) -> None:
        unknown = set(flags) - set("imsu")
        if unknown:
            message = f"regular expressions take the flags i, m, s and u, not {', '.join(sorted(unknown))}"
            raise UnsupportedQuery(message)
        self._ignores_case = "i" in flags
        self._dot_takes_newline = "s" in flags

    def read(self) -> _Automaton:
        if self._pattern.startswith("(?") and ")" in self._pattern:
            flags = self._pattern[2 : self._pattern.index(")")]
            if flags.isalpha():
                self._set_flags(flags + ("i" if self._ignores_case else ""))
                self._position = len(flags) + 3
        piece = self._alternatives()
        if self._position < len(self._pattern):
            self._fail("a ')' closes nothing")
        return _Automaton(self._states, piece)

    def _fail(self, problem: str) -> NoReturn:
        message = f"in the regular expression /{self._pattern}/, at character {self._position + 1}: {problem}"
        raise QuerySyntaxError(message)

    def _refuse(self, construct: str) -> NoReturn:
        message = f"{construct} is not supported in the regular expression /{self._pattern}/"
        raise UnsupportedQuery(message)

    def _peek(self) -> str:
        return self._pattern[self._position : self._position + 1]

    def _next(self) -> str:
        char = self._peek()
        if not char:
            self._fail("it ends too early")
        self._position += 1
        return char

    def _take(self, text: str) -> bool:
        if self._pattern.startswith(text, self._position):
            self._position += len(text)
            return True
        return False

    def _add(self, state: _State) -> int:
        self._n_states += 1
        self._budget.spend(1)
        if self._n_states > MAX_STATES:
            message = f"the regular expression /{self._pattern}/ is too large"
            raise UnsupportedQuery(message)
        self._states.append(state)
        return len(self._states) - 1

    def _empty(self) -> _Piece:
        index = self._add(_State())
        return _Piece(index, index)

    def _single(self, accepts: Accepts) -> _Piece:
        end = self._add(_State())
        return _Piece(self._add(_State(accepts=accepts, targets=[end])), end)

    def _alternatives(self) -> _Piece:
        self._depth += 1
        if self._depth > MAX_NESTING:
            self._fail(f"groups are nested more than {MAX_NESTING} deep")
        pieces = [self._sequence()]
        while self._take("|"):
            pieces.append(self._sequence())
        self._depth -= 1
        if len(pieces) == 1:
            return pieces[0]
        end = self._add(_State())
        for piece in pieces:
            self._states[piece.end].targets.append(end)
        return _Piece(self._add(_State(targets=[piece.start for piece in pieces])), end)

    def _sequence(self) -> _Piece:
        piece = self._empty()
        while self._peek() not in {"", "|", ")"}:
            piece = self._join(piece, self._repeated())
        return piece

    def _join(self, first: _Piece, second: _Piece) -> _Piece:
        self._states[first.end].targets.append(second.start)
        return _Piece(first.start, second.end)

    def _repeated(self) -> _Piece:
        begin = self._position
        piece = self._atom()
        bounds = self._bounds()
        if bounds is None:
            return piece
        least, most = bounds
        if self._peek() in {"*", "+"}:
            self._refuse("a possessive or doubled repetition")
        self._take("?")  # a lazy repetition matches the same names
        end_of_repetition = self._position

        def again() -> _Piece:
            self._position = begin
            copy = self._atom()
            self._position = end_of_repetition
            return copy

        return self._repeat(piece, again, least, most)

    def _repeat(self, piece: _Piece, again: Callable[[], _Piece], least: int, most: int | None) -> _Piece:
        whole = self._empty()
        pieces = iter([piece])
        for _ in range(least):
            whole = self._join(whole, next(pieces, None) or again())
        if most is None:
            loop = next(pieces, None) or again()
            end = self._add(_State())
            start = self._add(_State(targets=[loop.start, end]))
            self._states[loop.end].targets.append(start)
            return self._join(whole, _Piece(start, end))
        for _ in range(most - least):
            optional = next(pieces, None) or again()
            start = self._add(_State(targets=[optional.start, optional.end]))
            whole = self._join(whole, _Piece(start, optional.end))
        return whole

    def _bounds(self) -> tuple[int, int | None] | None:
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if self._peek() in simple and self._peek():
            return simple[self._next()]
        if self._peek() != "{":
            return None
        inside, closed, _ = self._pattern[self._position + 1 :].partition("}")
        low, comma, high = inside.partition(",")
        if not closed or not (low + high).isdigit() or not (low + high).isascii():
            return None
        self._position += len(inside) + 2
        least = int(low or 0)
        most = least if not comma else (int(high) if high else None)
        if max(least, most or 0) > MAX_STATES or (most is not None and most < least):
            self._fail("the numbers of a repetition do not fit")
        return least, most

    def _atom(self) -> _Piece:
        char = self._next()
        match char:
            case "(":
                return self._group()
            case "[":
                return self._single(self._set())
            case ".":
                takes_newline = self._dot_takes_newline
                return self._single(lambda char: takes_newline or char != "\n")
            case "^":
                return self._assertion(_is_start)
            case "$":
                return self._assertion(lambda text, position: position == len(text))
            case "\\":
                return self._escaped()
            case "*" | "+" | "?":
                self._position -= 1
                return self._fail("there is nothing to repeat")
            case _:
                return self._single(self._literal(char))

    def _assertion(self, condition: Callable[[str, int], bool]) -> _Piece:
        end = self._add(_State())
        return _Piece(self._add(_State(condition=condition, targets=[end])), end)

    def _literal(self, wanted: str) -> Accepts:
        if self._ignores_case:
            folded = wanted.casefold()
            return lambda char: char.casefold() == folded
        return lambda char: char == wanted

    def _escaped(self) -> _Piece:
        char = self._next()
        if char in _CLASSES:
            return self._single(_CLASSES[char])
        match char:
            case "b":
                return self._assertion(_is_boundary)
            case "B":
                return self._assertion(lambda text, position: not _is_boundary(text, position))
            case "A":
                return self._assertion(_is_start)
            case "Z":
                return self._assertion(lambda text, position: position == len(text))
            case _ if char.isdigit() and char != "0":
                return self._refuse("a back-reference")
            case _:
                return self._single(self._literal(self._escaped_character(char)))

    def _escaped_character(self, char: str) -> str:
        if char == "x":
            digits = self._next() + self._next()
            try:
                return chr(int(digits, 16))
            except ValueError:
                self._fail("\\x needs two hexadecimal digits")
        if char.isalpha() and char not in _ESCAPES:
            self._fail(f"\\{char} means nothing")
        return _ESCAPES.get(char, char)

    def _group(self) -> _Piece:
        if self._take("?"):
            if self._take("=") or self._take("!"):
                return self._look_ahead(is_negative=self._pattern[self._position - 1] == "!")
            if self._take("P<"):
                name, closed, _ = self._pattern[self._position :].partition(">")
                if not closed or not name.isidentifier():
                    self._fail("a group's name is malformed")
                self._position += len(name) + 1
            elif not self._take(":"):
                self._refuse(f"the group (?{self._peek()}…)")
        piece = self._alternatives()
        if not self._take(")"):
            self._fail("a '(' is never closed")
        return piece

    def _look_ahead(self, *, is_negative: bool) -> _Piece:
        if self._is_looking_ahead:
            self._refuse("a look-ahead inside another")
        self._is_looking_ahead = True
        outer, self._states = self._states, []
        inner = _Automaton(self._states, self._alternatives())
        self._states = outer
        self._is_looking_ahead = False
        if not self._take(")"):
            self._fail("a '(' is never closed")
        return self._assertion(lambda text, position: inner.match_at(text, position) != is_negative)

    def _set(self) -> Accepts:
        is_negated = self._take("^")
        members: list[Accepts] = []
        is_first = True
        while is_first or self._peek() != "]":
            members.append(self._set_member())
            is_first = False
        self._next()
        folds = self._ignores_case

        def accepts(char: str) -> bool:
            forms = {char, char.lower(), char.upper()} if folds else {char}
            return any(member(form) for member in members for form in forms) != is_negated

        return accepts

    def _set_member(self) -> Accepts:
        char = self._next()
        if char == "\\":
            char = self._next()
            if char in _CLASSES:
                return _CLASSES[char]
            char = "\b" if char == "b" else self._escaped_character(char)
        if self._peek() != "-" or self._pattern[self._position + 1 : self._position + 2] in {"", "]"}:
            return lambda other: other == char
        self._next()
        last = self._next()
        if last == "\\":
            last = self._escaped_character(self._next())
        if last < char:
            self._fail("a range of characters runs backwards")
        return lambda other: char <= other <= last


def _is_start(text: str, position: int) -> bool:
    return position == 0 or text == ""


def _is_boundary(text: str, position: int) -> bool:
    is_word = _CLASSES["w"]
    before = position > 0 and is_word(text[position - 1])
    after = position < len(text) and is_word(text[position])
    return before != after
