"""A store in a folder of a local (or network) file system: an object is a file, its key is its path."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
import stat
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio.to_thread

from servicex_server.errors import ConfigurationError, NotFound, ResourceExhausted, StoreUnavailable
from servicex_server.store.backends.scratch import remove_older_than
from servicex_server.store.descriptor import Descriptor
from servicex_server.store.key import check_key, check_prefix, is_key
from servicex_server.store.protocol import MAX_NOTE_BYTES, OpenObject, Room, StoredObject

PIECE_BYTES = 1024 * 1024
MIN_FREE_BYTES = 64 * 1024 * 1024

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LISTED_AT_ONCE = 1000
_PLACE_ATTEMPTS = 100

T = TypeVar("T")


class LocalStore:
    """Keeps objects below `folder`/objects, unfinished ones in `folder`/scratch on the same file system.

    Any number of processes may open the same folder.

    Args:
        folder: is created if it is missing, readable by its owner alone.
        min_free_bytes: a put is refused when the file system has less room than this left, so that
            results never take the last bytes from the database beside them.

    Raises:
        ConfigurationError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path, *, min_free_bytes: int = MIN_FREE_BYTES) -> None:
        self._objects = folder.absolute() / "objects"
        self._scratch = folder.absolute() / "scratch"
        self._min_free_bytes = min_free_bytes
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._objects.mkdir(mode=0o700, exist_ok=True)
            self._scratch.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            message = (
                f"the result store cannot use the folder {folder}: {error.strerror}; give it another one"
            )
            raise ConfigurationError(message) from error

    # For worker processes

    def scratch_folder(self) -> Path:
        return self._scratch

    def put_file(self, key: str, path: Path) -> StoredObject:
        target = self._path(key)
        finished = path
        try:
            self._check_room(path)
            finished = self._to_scratch(path)
            _sync(finished)
            status = finished.stat()
            self._place(finished, target)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise _misplaced(key) from error
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise _full(error) from error
        finally:
            for leftover in {path, finished}:
                if leftover.is_relative_to(self._scratch):
                    leftover.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        return _describe(key, status)

    def put_note(self, key: str, content: bytes) -> None:
        target = self._path(key)
        finished = self._scratch / f"note-{uuid.uuid4()}"
        try:
            finished.write_bytes(content)
            self._move(finished, target)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise _misplaced(key) from error
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise _full(error) from error
        finally:
            finished.unlink(missing_ok=True)

    def read_note(self, key: str) -> bytes | None:
        try:
            with self._path(key).open("rb") as file:
                content = file.read(MAX_NOTE_BYTES + 1)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        return content if len(content) <= MAX_NOTE_BYTES else None

    def has(self, key: str) -> bool:
        return _file_status(self._path(key)) is not None

    def open_object(self, key: str) -> OpenObject:
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            message = f"no object {key!r} in the store"
            raise NotFound(message) from error
        except OSError as error:
            raise _unreadable(key, error) from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            message = f"no object {key!r} in the store"
            raise NotFound(message)
        return _LocalObject(_describe(key, status), Descriptor(descriptor))

    def _check_room(self, path: Path) -> None:
        free_bytes = shutil.disk_usage(self._scratch).free
        if path.stat().st_dev != self._scratch.stat().st_dev:
            free_bytes -= path.stat().st_size
        if free_bytes < self._min_free_bytes:
            message = (
                f"the result store's disk is full: fewer than {self._min_free_bytes:,} bytes would stay free"
            )
            raise ResourceExhausted(message)

    def _to_scratch(self, path: Path) -> Path:
        """The file itself if it can be moved into place, else a copy on the store's own file system."""
        if path.stat().st_dev == self._scratch.stat().st_dev:
            return path
        copy = self._scratch / f"copy-{uuid.uuid4()}"
        try:
            shutil.copyfile(path, copy)
        except OSError:
            copy.unlink(missing_ok=True)
            raise
        return copy

    def _place(self, finished: Path, target: Path) -> None:
        """Moves the file to its key and makes the move survive a power cut."""
        new_folders = self._move(finished, target)
        for folder in {target.parent, *(new.parent for new in new_folders)}:
            with suppress(FileNotFoundError):
                _sync(folder)

    def _move(self, finished: Path, target: Path) -> list[Path]:
        """Moves the file to its key; the folders that were made for it."""
        for attempt in itertools.count(1):
            try:
                new_folders = self._make_folders(target.parent)
                finished.replace(target)
            except (FileNotFoundError, FileExistsError):
                # A deletion beside us may take the still empty folder away (mkdir may then see both).
                if attempt == _PLACE_ATTEMPTS or not finished.exists():
                    raise
            else:
                return new_folders
        raise AssertionError  # the last attempt raises

    def _make_folders(self, folder: Path) -> list[Path]:
        missing = list(itertools.takewhile(lambda one: not one.exists(), (folder, *folder.parents)))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return missing

    # For the server

    async def clear_scratch(self, older_than: datetime) -> int:
        return await anyio.to_thread.run_sync(remove_older_than, self._scratch, older_than)

    async def head(self, key: str) -> StoredObject | None:
        status = await anyio.to_thread.run_sync(_file_status, self._path(key))
        return _describe(key, status) if status else None

    async def heads(self, keys: Sequence[str]) -> list[StoredObject | None]:
        return await anyio.to_thread.run_sync(self._look_up, keys)

    def _look_up(self, keys: Sequence[str]) -> list[StoredObject | None]:
        found: list[StoredObject | None] = []
        for key in keys:
            status = _file_status(self._path(key)) if is_key(key) else None
            found.append(_describe(key, status) if status else None)
        return found

    async def stream(self, key: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        path = self._path(key)
        try:
            file = await anyio.to_thread.run_sync(partial(path.open, "rb", buffering=0))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            message = f"no object {key!r} in the store"
            raise NotFound(message) from error
        with file:
            while start < stop:
                size = min(PIECE_BYTES, stop - start)
                piece = await anyio.to_thread.run_sync(os.pread, file.fileno(), size, start)
                if not piece:
                    return
                yield piece
                start += len(piece)

    async def delete(self, key: str) -> None:
        await anyio.to_thread.run_sync(self._delete_file, self._path(key))

    def _delete_file(self, path: Path) -> None:
        if _file_status(path):
            path.unlink(missing_ok=True)
            self._remove_empty(path.parent)

    async def delete_prefix(self, prefix: str) -> int:
        check_prefix(prefix)
        return await anyio.to_thread.run_sync(self._delete_folder, self._objects / prefix)

    def _delete_folder(self, folder: Path) -> int:
        # One rename takes everything out of sight at once; the unlinking may then take its time.
        doomed = self._scratch / f"deleted-{uuid.uuid4()}"
        try:
            folder.rename(doomed)
        except (FileNotFoundError, NotADirectoryError):
            return 0
        n_deleted = 0
        while doomed.exists():
            # A put that had looked up the folder before the rename may still drop its file here.
            n_deleted += _remove_tree(doomed)
        self._remove_empty(folder.parent)
        return n_deleted

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._objects:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    async def iter_prefixes(self) -> AsyncIterator[str]:
        async for prefix in _in_threads(partial(_folder_names, self._objects)):
            yield prefix

    async def iter_keys(self, prefix: str = "") -> AsyncIterator[str]:
        if prefix:
            check_prefix(prefix)
        async for key in _in_threads(partial(self._walk, prefix)):
            yield key

    def _walk(self, prefix: str) -> Iterator[str]:
        for folder, _, names in os.walk(self._objects / prefix):
            for name in names:
                yield str((Path(folder) / name).relative_to(self._objects))

    def find_room(self) -> Room | None:
        usage = shutil.disk_usage(self._objects)
        return Room(usage.free, usage.total)

    def presign(self, key: str, expires_s: int, filename: str) -> str | None:  # noqa: ARG002  the port's
        check_key(key)
        return None

    def _path(self, key: str) -> Path:
        return self._objects / check_key(key)


class _LocalObject:
    """An open file: what was opened stays readable, also if the key is put again or deleted."""

    def __init__(self, stored: StoredObject, file: Descriptor) -> None:
        self.stored = stored
        self._file = file

    def read(self, start: int, stop: int) -> bytes:
        pieces: list[bytes] = []
        stop = min(stop, self.stored.size_bytes)
        try:
            with self._file as number:
                while start < stop:
                    piece = os.pread(number, stop - start, start)
                    if not piece:
                        break
                    pieces.append(piece)
                    start += len(piece)
        except OSError as error:
            raise _unreadable(self.stored.key, error) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        self._file.close()


def _describe(key: str, status: os.stat_result) -> StoredObject:
    identity = f"{status.st_size} {status.st_mtime_ns} {status.st_ino}".encode()
    # The suffix tells S3 clients that the tag is no MD5 sum, so that they do not verify it as one.
    etag = hashlib.blake2b(identity, digest_size=16).hexdigest() + "-1"
    return StoredObject(key, status.st_size, etag, datetime.fromtimestamp(int(status.st_mtime), UTC))


def _misplaced(key: str) -> ValueError:
    message = f"the store takes no key {key!r}: it lies within another object's key, or one within it"
    return ValueError(message)


def _unreadable(key: str, error: OSError) -> StoreUnavailable:
    message = f"the result store cannot read {key!r}: {error.strerror}"
    return StoreUnavailable(message)


def _full(error: OSError) -> ResourceExhausted:
    message = f"the result store's disk is full: {error.strerror}"
    return ResourceExhausted(message)


def _file_status(path: Path) -> os.stat_result | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _remove_tree(folder: Path) -> int:
    """Removes what is below `folder`, and it too unless something came in; returns the number of files."""
    n_removed = 0
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            (Path(parent) / name).unlink()
            n_removed += 1
        with suppress(OSError):
            Path(parent).rmdir()
    return n_removed


def _folder_names(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield entry.name + "/"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _in_threads(start: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """Steps through a blocking iterator in threads, a bounded batch at a time."""
    iterator = await anyio.to_thread.run_sync(start)
    while batch := await anyio.to_thread.run_sync(lambda: list(itertools.islice(iterator, _LISTED_AT_ONCE))):
        for item in batch:
            yield item
