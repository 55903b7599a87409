"""A new request: validated, planned, stored, tried on a first file, and on its way to the workers."""

from __future__ import annotations

import asyncio
import enum
import errno
import hashlib
import json
import logging
import os
import secrets
import stat
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache

from servicex_server.db import dataset as datasets
from servicex_server.db import lookup as lookups
from servicex_server.db import request as requests
from servicex_server.db.request import NewRequest
from servicex_server.db.session import Transaction
from servicex_server.did.finders.earlier import check_usable, missing
from servicex_server.errors import (
    Busy,
    FinderError,
    InvalidRequest,
    NotAllowed,
    NotFound,
    QueryError,
    SourceRefused,
    StoreFull,
    UnknownCodegen,
)
from servicex_server.model import earlier
from servicex_server.model.did import LISTED_ANEW, Did, Freshness, parse_did
from servicex_server.model.ids import DatasetId, RequestId
from servicex_server.model.kinds import LookupStatus, RequestState, ResultDestination
from servicex_server.model.lifecycle import (
    Effect,
    EnterState,
    Event,
    FilesKnown,
    Lifecycle,
    LookupJoined,
    LookupStarted,
    StartPreflight,
    step,
)
from servicex_server.model.naming import object_name, show_location, unique_object_names
from servicex_server.model.request import Principal, Submission, TransformRequest
from servicex_server.plan.parse import parse
from servicex_server.service.context import Services
from servicex_server.service.effect import act, keep_effects
from servicex_server.service.limits import Limits
from servicex_server.service.read import get_request, wait_for
from servicex_server.service.share import check_share
from servicex_server.source import policy
from servicex_server.source.pattern import explain_wildcard

logger = logging.getLogger(__name__)

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})


@dataclass(frozen=True, slots=True)
class _FileList:
    """The files of a submission, each once.

    Attributes:
        did: digest of the list as it was given, which clients show.
        dataset: name of the data set of these very paths.
        renamed: object names that differ from the plain ones, by position.
    """

    did: str
    dataset: str
    paths: tuple[str, ...]
    renamed: dict[int, str]


_Inputs = _FileList | Did
"""What a submission names: files, or a data set whose files a finder knows."""


async def submit(services: Services, principal: Principal, submission: Submission) -> RequestId:
    """The id of the stored request, which a worker has tried on a first file if that took not too long.

    Raises:
        InvalidRequest: what is wrong with the submission, or (from the preflight) with the query on
            these files; nothing is stored then.
        StoreFull: there is hardly any room for results.
        LimitReached: the caller has as much unfinished work as one user may have.
    """
    inputs = await asyncio.to_thread(_check, services, submission)
    if isinstance(inputs, Did) and inputs.scheme == earlier.SCHEME:
        await _check_earlier(services, principal, inputs)
    new = _new_request(services, principal, submission, inputs)
    with_preflight = services.limits.preflight_files > 0
    effects = await services.db.write(
        keep_effects(_store), new, inputs, with_preflight=with_preflight, limits=services.limits
    )
    await act(services, new.id, effects or ())
    shown = inputs.text if isinstance(inputs, Did) else f"{len(inputs.paths)} files"
    logger.info(
        "request.submitted: %s of %s, %s, %s to %s",
        *(new.id, principal.name, shown, submission.codegen, submission.result_format.value),
    )
    is_tried_now = any(isinstance(effect, StartPreflight) for effect in effects or ())
    if is_tried_now and services.limits.preflight_wait_s > 0:
        await _await_preflight(services, new.id)
    return new.id


def _check(services: Services, submission: Submission) -> _Inputs:
    """The inputs of a submission that can be served; it looks at local paths, so it is run in a thread."""
    limits = services.limits
    _check_room(services)
    _check_texts(limits, submission)
    if submission.result_destination is not ResultDestination.OBJECT_STORE:
        message = (
            f"result-destination {submission.result_destination.value!r} is not offered by this server; "
            f"use {ResultDestination.OBJECT_STORE.value!r}"
        )
        raise InvalidRequest(message)
    files = None if submission.files is None else _check_files(limits, submission.files)
    if submission.codegen not in services.codegens:
        _refuse_codegen(services, submission)
    _check_query(submission.codegen, submission.selection, submission.tree_name)
    if files is None:
        return _check_did(services, submission.did or "")
    paths = _allow(services, files)
    names = unique_object_names(paths, submission.result_format)
    renamed = {
        position: name
        for position, (path, name) in enumerate(zip(paths, names, strict=True))
        if name != object_name(path, submission.result_format)
    }
    # As the official server names a file list: clients show it as the request's DID.
    did = hashlib.sha256(" ".join(files).encode()).hexdigest()
    return _FileList(did=did, dataset=_name_dataset(paths), paths=paths, renamed=renamed)


@lru_cache(maxsize=16)
def _check_query(codegen: str, selection: str, tree_name: str | None) -> None:
    """Returns if it is a query. One that is sent again and again, for other files say, is parsed once."""
    parse(codegen, selection, tree_name=tree_name)


def _check_room(services: Services) -> None:
    needed = services.limits.submit_free_bytes
    room = services.store.find_room() if needed else None
    if room is not None and room.free_bytes < needed:
        message = (
            f"the disk for results is nearly full: {room.free_bytes:,} bytes are free, and new requests are "
            f"taken from {needed:,} on. Delete requests that you no longer need; the server's operator sees "
            "what takes the room with `servicex-server disk`, and `servicex-server sweep` makes some"
        )
        raise StoreFull(message)


def _name_dataset(paths: Sequence[str]) -> str:
    # Not the DID: lists that differ may share that, if a path holds a space or names a file twice.
    return hashlib.sha256(json.dumps(paths).encode()).hexdigest()


def _check_texts(limits: Limits, submission: Submission) -> None:
    for name, text, most in (
        ("title", submission.title, limits.title_characters),
        ("selection", submission.selection, limits.selection_bytes),
        ("tree-name", submission.tree_name, limits.title_characters),
    ):
        if text is None:
            continue
        if not _is_storable(text):
            message = f"the {name} holds a NUL character or broken Unicode"
            raise InvalidRequest(message)
        size = len(text.encode()) if name == "selection" else len(text)
        if size > most:
            unit = "bytes" if name == "selection" else "characters"
            message = f"the {name} has {size:,} {unit}; this server takes at most {most:,}"
            raise InvalidRequest(message)


def _check_files(limits: Limits, files: tuple[str, ...]) -> tuple[str, ...]:
    if not files:
        message = "the file list is empty; give at least one file"
        raise InvalidRequest(message)
    if len(files) > limits.files:
        message = f"the file list has {len(files):,} entries; this server takes at most {limits.files:,}"
        raise InvalidRequest(message)
    for position, path in enumerate(files):
        if not path or len(path) > limits.path_characters or not _is_storable(path):
            message = (
                f"entry {position} of the file list, {path[:100]!r}, is not a path or URL of 1 to "
                f"{limits.path_characters:,} characters"
            )
            raise InvalidRequest(message)
    return files


def _allow(services: Services, files: Sequence[str]) -> tuple[str, ...]:
    """The files, each place once, if every one of them may be read here, and any may be there."""
    seen: set[str] = set()
    paths: list[str] = []
    n_absent = 0
    for position, path in enumerate(files):
        try:
            place = policy.check(services.policy, path)
            n_absent += _is_absent(services, path, place)
        except SourceRefused as refusal:
            if len(files) == 1:
                raise
            message = f"entry {position} of the file list: {refusal.message}"
            raise SourceRefused(message) from refusal
        if place not in seen:
            seen.add(place)
            paths.append(path)
    if n_absent == len(files):
        # If others are there, they are delivered, and the absent ones fail by themselves.
        shown = show_location(files[0])
        problem = f"none of the {n_absent:,} files exists; the first is {shown!r}"
        raise SourceRefused(problem if n_absent > 1 else f"the file {shown!r} does not exist")
    return tuple(paths)


def _is_absent(services: Services, path: str, place: str) -> bool:
    """Whether it is a local file that is known not to be there.

    Args:
        path: as it was given.
        place: what the policy made of it.

    Raises:
        SourceRefused: no worker could read it, in words that say what to give instead.
    """
    shown = show_location(path)
    if path == "~" or path.startswith("~/"):
        message = f"the file {shown!r} begins with '~', which is not expanded: give the whole path"
        raise SourceRefused(message)
    is_seen = services.sees_inputs and policy.scheme_of(path) in policy.LOCAL_SCHEMES
    kind = _kind_of(place) if is_seen else _Kind.UNKNOWN
    if kind is _Kind.FOLDER:
        message = f"{shown!r} is a folder: list its files, or ask for the data set local://{place}/*.root"
        raise SourceRefused(message)
    if kind is not _Kind.OTHER:
        hint = explain_wildcard(path, "*?[" if kind is _Kind.ABSENT else "*")
        if hint is not None:
            message = f"the file {shown!r} is a pattern; {hint}"
            raise SourceRefused(message)
    return kind is _Kind.ABSENT


class _Kind(enum.Enum):
    """What is at a local path; `UNKNOWN` where only a worker can tell."""

    ABSENT = enum.auto()
    FOLDER = enum.auto()
    OTHER = enum.auto()
    UNKNOWN = enum.auto()


def _kind_of(place: str) -> _Kind:
    try:
        mode = os.stat(place).st_mode  # noqa: PTH116  the text, not a Path, for thousands of them
    except OSError as error:
        # What may not be looked at, or not now, is for the worker to tell, and to try again.
        return _Kind.ABSENT if error.errno in _ABSENT else _Kind.UNKNOWN
    return _Kind.FOLDER if stat.S_ISDIR(mode) else _Kind.OTHER


def _refuse_codegen(services: Services, submission: Submission) -> None:
    reason = services.withheld.get(submission.codegen)
    if reason is None:
        # The parser knows what a deployment would need for a generator it does not offer.
        parse(submission.codegen, submission.selection, tree_name=submission.tree_name)
        reason = "it is switched off"
    offered = ", ".join(sorted(services.codegens))
    message = (
        f"the code generator {submission.codegen[:64]!r} is not offered here: {reason}. Offered: {offered}"
    )
    raise UnknownCodegen(message)


def _check_did(services: Services, text: str) -> Did:
    """The data set, if there is a finder for it here."""
    did = parse_did(text, default_scheme=services.default_scheme)
    finder = services.finders.get(did.scheme)
    if finder is not None:
        try:
            finder.check(did)
        except FinderError as error:
            raise InvalidRequest(error.message) from error
        return did
    remote = () if services.remote_finders is None else services.remote_finders.schemes
    if did.scheme in remote:
        return did
    offered = [f"{scheme}://" for scheme in sorted({*services.finders, *remote})]
    needs = services.absent_finders.get(did.scheme, "to be a program of its own, named in `broker_finders`")
    reason = f"it has no {did.scheme} finder, which needs {needs}"
    if did.scheme in policy.ROOT_SCHEMES:
        reason = "that is a file, or behind xrootd:// a pattern"
    message = (
        f"this server cannot look up the data set {text[:200]!r}: {reason}. It can find "
        f"{', '.join(['file lists (give the files themselves)', *offered])}"
    )
    raise InvalidRequest(message)


async def _check_earlier(services: Services, principal: Principal, did: Did) -> None:
    """Returns if the caller may use the results of that request, and they can be used.

    Raises:
        InvalidRequest: the same words for a request of somebody else as for none.
    """
    try:
        check_usable(await get_request(services, principal, did.name), did)
    except (NotFound, NotAllowed) as error:
        message = f"the data set {did.text} does not exist: {missing(did).message}"
        raise InvalidRequest(message) from error
    except FinderError as error:
        message = f"the data set {did.text} cannot be input: {error.message}"
        raise InvalidRequest(message) from error


def _new_request(
    services: Services, principal: Principal, submission: Submission, inputs: _Inputs
) -> NewRequest:
    compression = submission.compression or services.compressions.get(submission.result_format)
    return NewRequest(
        id=RequestId(str(uuid.uuid4())),
        owner=principal.name,
        title=submission.title,
        did=inputs.text if isinstance(inputs, Did) else inputs.did,
        selection=submission.selection,
        codegen=submission.codegen,
        tree_name=submission.tree_name,
        result_format=submission.result_format,
        result_destination=submission.result_destination,
        access_key=secrets.token_hex(10).upper(),
        secret_key=secrets.token_urlsafe(30),
        submit_time=services.clock(),
        renamed={} if isinstance(inputs, Did) else inputs.renamed,
        compression=str(compression) if compression is not None else None,
        uses_cache=submission.uses_cache and services.result_cache,
    )


def _store(
    transaction: Transaction, new: NewRequest, inputs: _Inputs | Did, *, with_preflight: bool, limits: Limits
) -> tuple[Effect, ...]:
    if isinstance(inputs, Did):
        return _store_look_up(transaction, new, inputs, with_preflight=with_preflight, limits=limits)
    check_share(transaction, new.owner, new.id, len(inputs.paths), limits)
    dataset_id, n_files = datasets.use_file_list(
        transaction,
        name=inputs.dataset,
        paths=inputs.paths,
        now=new.submit_time,
    )
    # What fitted these files once need not be tried again.
    with_preflight = with_preflight and not requests.has_answered(transaction, new, dataset_id)
    cause = f"submit by {new.owner}"
    life, effects = step(Lifecycle(), FilesKnown(cause, n_files, with_preflight))
    stored = requests.insert_request(transaction, new, dataset_id, life, has_ended=life.state.is_terminal)
    if stored is None:
        # Run again after a commit whose word was lost: the effects are those of the first time.
        is_tried = requests.is_tried(transaction, new.id)
        _, effects = step(Lifecycle(), FilesKnown(cause, n_files, with_preflight=not is_tried))
    return (*effects, *_entered(cause, life))


def _store_look_up(
    transaction: Transaction, new: NewRequest, did: Did, *, with_preflight: bool, limits: Limits
) -> tuple[Effect, ...]:
    # Stored by a run whose commit went unheard, it has its look-up already.
    if requests.find_number(transaction, new.id) is not None:
        return ()
    check_share(transaction, new.owner, new.id, 0, limits)
    if did.scheme == earlier.SCHEME and not requests.hold_input(transaction, RequestId(did.name)):
        message = f"the data set {did.text} does not exist: {missing(did).message}"
        raise InvalidRequest(message)
    dataset_id, event = _find_dataset(transaction, new, did, limits, with_preflight=with_preflight)
    life, effects = step(Lifecycle(), event)
    requests.insert_request(transaction, new, dataset_id, life, has_ended=life.state.is_terminal)
    return (*effects, *_entered(event.cause, life))


def _entered(cause: str, life: Lifecycle) -> tuple[Effect, ...]:
    return tuple(EnterState(cause, state) for state in dict.fromkeys((RequestState.SUBMITTED, life.state)))


def _find_dataset(
    transaction: Transaction, new: NewRequest, did: Did, limits: Limits, *, with_preflight: bool
) -> tuple[DatasetId, Event]:
    """The data set, and what it means for the request: known, or being looked up for it or for others."""
    if did.scheme == earlier.SCHEME:
        did = replace(did, freshness=Freshness.BYPASS)  # a retry may have changed it
    elif did.scheme in LISTED_ANEW and did.freshness is Freshness.CACHED:
        did = replace(did, freshness=Freshness.REFRESH)
    oldest = new.submit_time - timedelta(seconds=limits.lookup_max_age_s)
    used = lookups.use_dataset(transaction, did, now=new.submit_time, oldest=oldest)
    cause = f"submit by {new.owner}"
    if used.status is LookupStatus.COMPLETE:
        return used.dataset_id, FilesKnown(cause, used.n_files, with_preflight)
    if used.is_new:
        return used.dataset_id, LookupStarted(cause, with_preflight)
    return used.dataset_id, LookupJoined(cause, with_preflight)


async def _await_preflight(services: Services, request_id: RequestId) -> None:
    """Returns once the query was tried, or nobody wants to wait longer; raises what speaks against it."""
    try:
        request = await wait_for(services, request_id, _is_tried, services.limits.preflight_wait_s)
    except (NotFound, Busy):
        return
    if request.state is RequestState.FATAL and request.failure_info is not None:
        # The caller learns it now, so there is nothing to keep.
        await services.db.write(requests.delete_request, request.number)
        raise QueryError(request.failure_info)


def _is_tried(request: TransformRequest) -> bool:
    return request.state is not RequestState.SUBMITTED


def _is_storable(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
