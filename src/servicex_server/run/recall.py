"""Results of earlier requests: what answers the same question on the same file need not be made again.

A note in the store tells which object answers a question, and what was counted when it was made. It is
written after the object. A note whose object is gone, or one that cannot be read, is as good as none.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from servicex_server.errors import ServicexError
from servicex_server.model.compression import default_compression
from servicex_server.model.shared import SharedQuestion, new_object_key, note_key, question_key_of
from servicex_server.model.tally import Tally, TallyDocument, to_document
from servicex_server.model.unit import TransformUnit
from servicex_server.plan.plan import Plan
from servicex_server.run.remembered import MOST_PLANS, Remembered
from servicex_server.run.sandbox.stage import plain_name
from servicex_server.source.access import domain_of
from servicex_server.source.protocol import ByteSource
from servicex_server.store.protocol import Store, StoredObject

log = logging.getLogger(__name__)

RESULTS = 1
"""Counted up by a change that gives other results to the same plan within one version of the package."""

_NAME_PARTS = 4

_texts: Remembered[Plan, str] = Remembered(MOST_PLANS)
"""Canonical forms, which take long to make of large plans."""


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of an object.

    Attributes:
        tally: its seconds and bytes are those of the attempt that made the object.
    """

    store_key: str
    size_bytes: int
    n_events_in: int
    n_events_out: int
    tally: TallyDocument


class Counted(Protocol):
    """What a note tells of the making of a result."""

    @property
    def n_events_in(self) -> int: ...

    @property
    def n_events_out(self) -> int: ...

    @property
    def tally(self) -> Tally: ...


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Note)


class Recall:
    """What a unit may take from earlier requests, and leave to later ones.

    Only a first attempt takes anything. Later ones trust nothing but the file: the first may have failed by
    what it took, such as an object that was deleted in the same moment.
    """

    def __init__(self, store: Store, unit: TransformUnit) -> None:
        self._store = store
        self._unit = unit

    def ask(self, plan: Plan, source: ByteSource, location: str) -> str | None:
        """The key of the unit's question on an open file; None if nothing names the file's content."""
        unit = self._unit
        file = _name_content(unit, source, location)
        if file is None:
            return None
        if plan.script is not None:
            # The code is told the file's name, so it may depend on it.
            file = f"{file} as {plain_name(location)}"
        compression = unit.compression or default_compression(unit.result_format)
        return SharedQuestion(
            plan=_texts.get(plan) or _texts.put(plan, plan.canonical()),
            result_format=unit.result_format,
            compression=str(compression),
            entry_start=unit.entry_start,
            entry_stop=unit.entry_stop,
            file=file,
            domain=domain_of(location, unit.owner),
            engine=f"{RESULTS} {_version()}",
        ).key()

    def find(self, question_key: str) -> Note | None:
        """What answers the question already, if its object is there."""
        if self._unit.attempt > 1:
            return None
        try:
            return self._find(question_key)
        except (ServicexError, OSError) as error:
            # The store is asked again when the result is there, with more patience.
            log.warning("earlier results cannot be looked for: %s", error)
            return None

    def keep(self, question_key: str, path: Path, summary: Counted) -> StoredObject:
        """Puts the finished file at `path` into the store, for others to find.

        Raises:
            ResourceExhausted, StoreUnavailable: as `Store.put_file`.
        """
        stored = self._store.put_file(new_object_key(question_key), path)
        note = Note(
            store_key=stored.key,
            size_bytes=stored.size_bytes,
            n_events_in=summary.n_events_in,
            n_events_out=summary.n_events_out,
            tally=to_document(summary.tally),
        )
        try:
            self._store.put_note(note_key(question_key), _encoder.encode(note))
        except (ServicexError, OSError) as error:
            log.warning("a result is kept, but no later request will find it: %s", error)
        return stored

    def _find(self, question_key: str) -> Note | None:
        content = self._store.read_note(note_key(question_key))
        if content is None:
            return None
        try:
            note = _decoder.decode(content)
        except msgspec.MsgspecError as error:
            log.warning("the note of %s is not understood: %s", question_key, error)
            return None
        if question_key_of(note.store_key) != question_key or not self._store.has(note.store_key):
            return None
        return note


@functools.cache
def _version() -> str:
    return importlib.metadata.version("servicex-server")


def _name_content(unit: TransformUnit, source: ByteSource, location: str) -> str | None:
    """What names the content of the file, whichever of its replicas is read, if anything does."""
    if unit.checksum is None:
        return source.fingerprint
    # A sum of 32 bits is no proof: somebody could make a file of the same one. The end of the path, which in
    # a catalogue holds scope and name, is the same for all replicas, and nobody else's.
    name = "/".join(PurePosixPath(urlsplit(location).path).parts[-_NAME_PARTS:])
    return f"{unit.checksum}:{source.size_bytes}:{name}"
