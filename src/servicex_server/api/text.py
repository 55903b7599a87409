"""Texts as clients can show them."""

from __future__ import annotations

MAX_MESSAGE_CHARACTERS = 4000

_OPENS_MARKUP = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/#@")


def to_message(text: str, limit: int = MAX_MESSAGE_CHARACTERS) -> str:
    """`text` bounded in length and without anything that the client would take for markup.

    The official client prints messages and titles through rich, where `[name …]` is a style (it vanishes) and
    `[/name]` an error. Brackets that rich leaves alone (indices, number lists) stay.

    >>> to_message("no branch 'x'; nearest: [jet_pt, jet_eta]; asked was jets[0]")
    "no branch 'x'; nearest: (jet_pt, jet_eta); asked was jets[0]"
    """
    shortened = text if len(text) <= limit else f"{text[: limit - 2]} …"
    characters = list(shortened)
    unclosed: list[int | None] = []
    for index, character in enumerate(characters):
        if character == "[":
            following = characters[index + 1 : index + 2]
            is_markup = bool(following) and following[0] in _OPENS_MARKUP
            if is_markup:
                characters[index] = "("
            unclosed.append(index if is_markup else None)
        elif character == "]" and unclosed and unclosed.pop() is not None:
            characters[index] = ")"
    return "".join(characters)
