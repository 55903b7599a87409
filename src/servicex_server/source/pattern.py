"""Patterns in the place of files: nobody expands them there, but the finders of data sets do."""

from __future__ import annotations

from servicex_server.model.naming import show_location
from servicex_server.source.policy import LOCAL_SCHEMES, scheme_of

_DATASETS = {"root": "xrootd://", "http": "", "https": ""}
"""What stands before a URL to make it the name of a data set; schemes without a finder are left out."""


def explain_wildcard(location: str, wildcards: str = "*") -> str | None:
    """What to do instead, for a location that holds a wildcard; None if it holds none.

    Args:
        location: a path or URL as it was given.
        wildcards: what counts as one. Files may have `?` and `[` in their names, which so tell little.

    >>> explain_wildcard("root://host//run1/*.root").rpartition(" ")[2]
    'xrootd://root://host//run1/*.root'
    >>> explain_wildcard("/data/*.root").rpartition(" ")[2]
    'local:///data/*.root'
    >>> explain_wildcard("https://host/x.root?sign=a*b")
    """
    scheme = scheme_of(location)
    # Without a password, and without the query, where a `*` is none of ours.
    path = location if scheme in LOCAL_SCHEMES else show_location(location).removesuffix("?…")
    if not set(wildcards) & set(path):
        return None
    if scheme in LOCAL_SCHEMES:
        place = location if scheme is None else location.partition("://")[2].removeprefix("localhost")
        dataset = f"local://{place}"
    elif scheme in _DATASETS:
        dataset = _DATASETS[scheme] + path
    else:
        return "wildcards are not expanded: list the files"
    return f"wildcards are not expanded: list the files, or ask a server for the data set {dataset}"
