"""Text for clients that read `[…]` as markup.

The official client prints titles and messages through rich, where `[jet_pt]` disappears and `[/abs]`
is an error (https://rich.readthedocs.io/en/stable/markup.html).
"""

from __future__ import annotations

import re

_TAG = re.compile(r"\[([A-Za-z/#@][^\[\]]*)\]")
_TAG_START = re.compile(r"\[(?=[A-Za-z/#@])")


def without_markup(text: str) -> str:
    """The text with round brackets where square ones would be taken for markup.

    >>> without_markup("no branch 'pt'; there are [eta, phi], x[0] and [/abs")
    "no branch 'pt'; there are (eta, phi), x[0] and (/abs"
    """
    return _TAG_START.sub("(", _TAG.sub(r"(\1)", text))
