"""Names chosen by pattern, and the names that come closest to a wrong one."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable

from servicex_server.errors import UnsupportedQuery
from servicex_server.plan.regex import Regex

MAX_CANDIDATES = 5_000
MAX_PATTERN = 500
_REGEX = re.compile(r"/(.*)/([a-zA-Z]*)", re.DOTALL)
_GLOB_CHARACTERS = frozenset("*?[")


def nearest(name: str, candidates: Iterable[str], *, limit: int = 5) -> tuple[str, ...]:
    """Up to `limit` candidates that look like `name`, best first."""
    by_folded: dict[str, str] = {}
    for candidate in candidates:
        by_folded.setdefault(candidate.casefold(), candidate)
        if len(by_folded) >= MAX_CANDIDATES:
            break
    found = difflib.get_close_matches(name.casefold()[:200], by_folded, n=limit, cutoff=0.6)
    return tuple(by_folded[folded] for folded in found)


def any_of(patterns: Iterable[str] | None) -> Callable[[str], bool]:
    """Whether a name matches any of the patterns; everything matches None.

    A pattern is an exact name, a glob (`Muon_*`), or a regular expression between slashes, with flags
    (`/muon_.*/i`), which must match at the beginning of the name.

    Raises:
        UnsupportedQuery: a pattern is too long, or uses what `regex` does not know.
        QuerySyntaxError: a regular expression is malformed.
    """
    if patterns is None:
        return lambda _: True
    matchers = [_matcher(pattern) for pattern in patterns]
    return lambda name: any(matches(name) for matches in matchers)


def _matcher(pattern: str) -> Callable[[str], bool]:
    if len(pattern) > MAX_PATTERN:
        message = f"a pattern is longer than {MAX_PATTERN} characters"
        raise UnsupportedQuery(message)
    slashed = _REGEX.fullmatch(pattern)
    if slashed is not None:
        return Regex(slashed[1], slashed[2]).match
    if _GLOB_CHARACTERS & set(pattern):
        return lambda name: fnmatch.fnmatchcase(name, pattern)
    return lambda name: name == pattern
