"""Names chosen by pattern, and the names that come closest to a wrong one."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable

from servicex_server.errors import UnsupportedQuery
from servicex_server.plan.regex import Budget, Regex

MAX_CANDIDATES = 5_000
MAX_PATTERN = 500
MAX_PATTERNS = 1_000
"""Globs and regular expressions in one list; exact names cost next to nothing."""
_REGEX = re.compile(r"/(.*)/([a-zA-Z]*)", re.DOTALL)
_GLOB_CHARACTERS = frozenset("*?[")


NEAR = 0.6
FARTHER = 0.4
"""For short names, of which one wrong letter is much: HTT is this like LHE_HT."""


def nearest(name: str, candidates: Iterable[str], *, limit: int = 5, cutoff: float = NEAR) -> tuple[str, ...]:
    """Up to `limit` candidates that look like `name`, best first.

    Args:
        cutoff: the least similarity, between 0 for any name and 1 for the same, as of `difflib`.
    """
    by_folded: dict[str, str] = {}
    for candidate in candidates:
        by_folded.setdefault(candidate.casefold(), candidate)
        if len(by_folded) >= MAX_CANDIDATES:
            break
    found = difflib.get_close_matches(name.casefold()[:200], by_folded, n=limit, cutoff=cutoff)
    return tuple(by_folded[folded] for folded in found)


def any_of(patterns: Iterable[str] | None, budget: Budget | None = None) -> Callable[[str], bool]:
    """Whether a name matches any of the patterns; everything matches None.

    A pattern is an exact name, a glob (`Muon_*`), or a regular expression between slashes, with flags
    (`/muon_.*/i`), which must match at the beginning of the name.

    Args:
        patterns: what to match.
        budget: what the patterns of a whole query may spend; without one, those of this list share one.

    Raises:
        UnsupportedQuery: a pattern, or all together, are too long, or use what `regex` does not know.
        QuerySyntaxError: a regular expression is malformed.
    """
    if patterns is None:
        return lambda _: True
    budget = budget or Budget()
    exact: set[str] = set()
    matchers: list[Callable[[str], object]] = []
    for pattern in patterns:
        matcher = _matcher(pattern, budget)
        if matcher is None:
            exact.add(pattern)
        else:
            matchers.append(matcher)
        if len(matchers) > MAX_PATTERNS:
            message = f"there are more than {MAX_PATTERNS:,} patterns; join some by '|' or list exact names"
            raise UnsupportedQuery(message)
    return lambda name: name in exact or any(matches(name) for matches in matchers)


def _matcher(pattern: str, budget: Budget) -> Callable[[str], object] | None:
    """What is true for names that match; None for an exact name."""
    if len(pattern) > MAX_PATTERN:
        message = f"a pattern is longer than {MAX_PATTERN} characters"
        raise UnsupportedQuery(message)
    slashed = _REGEX.fullmatch(pattern)
    if slashed is not None:
        return Regex(slashed[1], slashed[2], budget).match
    if not _GLOB_CHARACTERS & set(pattern):
        return None
    budget.spend(len(pattern))
    # Its stars do not backtrack, unlike those that a user could write himself.
    return re.compile(fnmatch.translate(pattern)).match
