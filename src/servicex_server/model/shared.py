"""Keys of results that requests share: named after what was asked of what, never after who asked.

For one question there is a note, which tells of an object that answers it, and any number of objects: each
is written once, under a key that never comes again. So nobody who reads an object finds another one in its
place, and a deletion that comes late deletes nothing new (docs/decisions/0023).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass

from servicex_server.model.access import AccessDomain
from servicex_server.model.kinds import ResultFormat

FOLDER = "objects/"
_SHARD_CHARACTERS = 2
SHARDS = tuple(f"{FOLDER}{number:02x}/" for number in range(16**_SHARD_CHARACTERS))
"""The prefixes that all shared keys begin with, about equally many with each."""
_NOTE = ".json"
_NONCE_BYTES = 8


@dataclass(frozen=True, slots=True)
class SharedQuestion:
    """All that a result depends on: equal questions have equal answers.

    Attributes:
        plan: the plan's canonical form.
        compression: codec, level and splitting, the default spelled out.
        entry_start, entry_stop: of each tree.
        file: what names the file's content.
        domain: whose rights opened the file.
        engine: who answers; another version may answer otherwise.
    """

    plan: str
    result_format: ResultFormat
    compression: str
    entry_start: int
    entry_stop: int | None
    file: str
    domain: AccessDomain
    engine: str

    def key(self) -> str:
        """What the keys of note and objects begin with."""
        ingredients = (
            self.plan,
            self.result_format.value,
            self.compression,
            self.entry_start,
            self.entry_stop,
            self.file,
            str(self.domain),
            self.engine,
        )
        digest = hashlib.sha256(json.dumps(ingredients).encode(errors="surrogatepass")).hexdigest()
        return f"{FOLDER}{digest[:_SHARD_CHARACTERS]}/{digest}"


def new_object_key(question_key: str) -> str:
    """Where one answer goes; never the same twice."""
    return f"{question_key}-{secrets.token_hex(_NONCE_BYTES)}"


def note_key(question_key: str) -> str:
    """Where the note of a question is."""
    return question_key + _NOTE


def question_key_of(key: str) -> str:
    """The question that a note or an object is about.

    >>> question_key_of("objects/ab/abc-01"), question_key_of("objects/ab/abc.json")
    ('objects/ab/abc', 'objects/ab/abc')
    """
    return key.removesuffix(_NOTE) if is_note(key) else key.rpartition("-")[0]


def is_note(key: str) -> bool:
    """Whether the key, of those that are shared, is that of a note."""
    return key.endswith(_NOTE)


def is_shared(key: str) -> bool:
    """Whether requests may share the object of that key; others belong to the request they begin with."""
    return key.startswith(FOLDER)
