"""The tables. These classes describe the schema and build statements; they never leave `db`."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from servicex_server.model.replica import ReplicaDocument
from servicex_server.model.tally import TallyDocument

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints need names that are the same everywhere, or a migration cannot drop them."""


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time: aware and UTC on this side, whatever the database keeps."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuses naive times, which mean something else on every machine."""
        if value is None:
            return None
        if value.tzinfo is None:
            message = f"a time without zone cannot be stored: {value}"
            raise ValueError(message)
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002  the library's signature
    ) -> datetime | None:
        """Stamps UTC on what SQLite returns."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite numbers rows only where the key is INTEGER; PostgreSQL wants 64 bits.
Key = BigInteger().with_variant(Integer, "sqlite")
Document = JSON().with_variant(JSONB, "postgresql")
# Sorted by its bytes, as S3 lists keys; SQLite does so anyway.
ByteOrdered = String(1024).with_variant(String(1024, collation="C"), "postgresql")


class Base(DeclarativeBase):
    """All tables."""

    metadata = MetaData(naming_convention=NAMING)


class PrincipalRow(Base):
    """A user with an access token, of which only the digest is kept."""

    __tablename__ = "principal"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    is_admin: Mapped[bool]
    created: Mapped[datetime] = mapped_column(UtcDateTime)


class DatasetRow(Base):
    """A named set of files; at most one of a name is fresh."""

    __tablename__ = "dataset"
    __table_args__ = (
        Index(
            "uq_dataset_fresh_name",
            "name",
            unique=True,
            sqlite_where=text("is_stale = 0"),
            postgresql_where=text("NOT is_stale"),
        ),
        # Look-ups under way are a handful among all data sets.
        Index(
            "ix_dataset_open",
            "last_updated",
            sqlite_where=text("lookup_status IN ('created', 'looking')"),
            postgresql_where=text("lookup_status IN ('created', 'looking')"),
        ),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    did_finder: Mapped[str] = mapped_column(String(64))
    n_files: Mapped[int] = mapped_column(Integer)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    n_events: Mapped[int] = mapped_column(BigInteger)
    last_used: Mapped[datetime] = mapped_column(UtcDateTime)
    last_updated: Mapped[datetime] = mapped_column(UtcDateTime)
    lookup_status: Mapped[str] = mapped_column(String(32))
    is_stale: Mapped[bool]
    # What the finder has sent, repeats included, and what it says to have sent.
    n_received: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    n_announced: Mapped[int | None] = mapped_column(Integer)
    # By which the repetition of a call is known.
    last_batch: Mapped[str | None] = mapped_column(String(64))
    # Why the look-up failed.
    failure: Mapped[str | None] = mapped_column(Text)


class DatasetFileRow(Base):
    """One file and its replicas; `position` counts from 0 in the order of the data set."""

    __tablename__ = "dataset_file"
    __table_args__ = (
        UniqueConstraint("dataset_id", "position"),
        Index(
            "uq_dataset_file_digest",
            "dataset_id",
            "digest",
            unique=True,
            sqlite_where=text("digest IS NOT NULL"),
            postgresql_where=text("digest IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(Integer)
    paths: Mapped[list[str]] = mapped_column(Document)
    adler32: Mapped[str | None] = mapped_column(String(32))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    n_events: Mapped[int] = mapped_column(BigInteger)
    # Of its set of replicas, where a finder found it: finders may tell of a file twice.
    digest: Mapped[str | None] = mapped_column(String(32))


class RequestRow(Base):
    """A request, with its counters and the totals of its results, so that status reads one row."""

    __tablename__ = "request"
    __table_args__ = (
        Index("ix_request_owner_number", "owner", "number"),
        Index("ix_request_dataset_id_number", "dataset_id", "number"),
        Index(
            "ix_request_unfinished_owner",
            "owner",
            sqlite_where=text("finish_time IS NULL"),
            postgresql_where=text("finish_time IS NULL"),
        ),
        # What resume, sweeper and audit look for is a handful among millions.
        Index(
            "ix_request_unfinished",
            "number",
            sqlite_where=text("finish_time IS NULL"),
            postgresql_where=text("finish_time IS NULL"),
        ),
        Index(
            "ix_request_deleted_at",
            "deleted_at",
            sqlite_where=text("deleted_at IS NOT NULL"),
            postgresql_where=text("deleted_at IS NOT NULL"),
        ),
        Index("ix_request_finish_time", "finish_time"),
        # A deleted request's number must not come back: clients may name a request by it.
        {"sqlite_autoincrement": True},
    )

    number: Mapped[int] = mapped_column(Key, primary_key=True)
    id: Mapped[str] = mapped_column(String(36), unique=True)
    owner: Mapped[str] = mapped_column(String(255))
    title: Mapped[str | None] = mapped_column(Text)
    did: Mapped[str] = mapped_column(Text)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    selection: Mapped[str] = mapped_column(Text)
    codegen: Mapped[str] = mapped_column(String(64))
    tree_name: Mapped[str | None] = mapped_column(Text)
    result_format: Mapped[str] = mapped_column(String(32))
    # None for the format's default.
    compression: Mapped[str | None] = mapped_column(String(32))
    result_destination: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(32))
    is_fileset_complete: Mapped[bool]
    is_preflight_pending: Mapped[bool]
    failure_info: Mapped[str | None] = mapped_column(Text)
    files: Mapped[int] = mapped_column(Integer)
    completed: Mapped[int] = mapped_column(Integer)
    failed: Mapped[int] = mapped_column(Integer)
    submit_time: Mapped[datetime] = mapped_column(UtcDateTime)
    # When it was submitted, or last retried: what the time limit counts from.
    active_since: Mapped[datetime] = mapped_column(UtcDateTime)
    finish_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    access_key: Mapped[str] = mapped_column(String(64), unique=True)
    secret_key: Mapped[str] = mapped_column(String(64))
    # Object names of files whose plain name another file of the request has: position -> name.
    renamed: Mapped[dict[str, str]] = mapped_column(Document)
    # The latest time given to a result, or to an end that a retry has undone; ids of events depend on it.
    last_result_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    min_seconds: Mapped[float | None] = mapped_column(Float)
    max_seconds: Mapped[float | None] = mapped_column(Float)
    total_seconds: Mapped[float] = mapped_column(Float)
    total_bytes: Mapped[int] = mapped_column(BigInteger)
    total_events: Mapped[int] = mapped_column(BigInteger)
    uses_cache: Mapped[bool] = mapped_column(server_default=false())
    # Delivered files whose result an earlier request had.
    cached: Mapped[int] = mapped_column(Integer, server_default="0")


class FileResultRow(Base):
    """How one file of one request ended."""

    __tablename__ = "file_result"
    __table_args__ = (
        UniqueConstraint("request_number", "file_id", "entry_start"),
        UniqueConstraint("request_number", "object_name"),
        Index("ix_file_result_request_number_created_at", "request_number", "created_at"),
        Index(
            "ix_file_result_failures",
            "request_number",
            "status",  # always the same, but without it SQLite takes the index above
            "created_at",
            sqlite_where=text("status = 'failure'"),
            postgresql_where=text("status = 'failure'"),
        ),
    )

    number: Mapped[int] = mapped_column(Key, primary_key=True)
    request_number: Mapped[int] = mapped_column(ForeignKey("request.number", ondelete="CASCADE"))
    file_id: Mapped[int] = mapped_column(ForeignKey("dataset_file.id"), index=True)
    entry_start: Mapped[int] = mapped_column(BigInteger)
    path: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16))
    object_name: Mapped[str | None] = mapped_column(ByteOrdered)
    store_key: Mapped[str | None] = mapped_column(String(1024))
    etag: Mapped[str | None] = mapped_column(String(255))
    modified: Mapped[datetime | None] = mapped_column(UtcDateTime)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    n_events_in: Mapped[int] = mapped_column(BigInteger)
    n_events_out: Mapped[int] = mapped_column(BigInteger)
    bytes_read: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float] = mapped_column(Float)
    attempts: Mapped[int] = mapped_column(Integer)
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # Absent for failures, and for what older versions recorded.
    tally: Mapped[TallyDocument | None] = mapped_column(Document)
    is_cached: Mapped[bool] = mapped_column(server_default=false())
    replicas: Mapped[ReplicaDocument | None] = mapped_column(Document)


class SharedObjectRow(Base):
    """An object of the store that results of several requests may name; doomed once none does."""

    __tablename__ = "shared_object"
    __table_args__ = (
        Index(
            "ix_shared_object_doomed_at",
            "doomed_at",
            sqlite_where=text("doomed_at IS NOT NULL"),
            postgresql_where=text("doomed_at IS NOT NULL"),
        ),
    )

    store_key: Mapped[str] = mapped_column(ByteOrdered, primary_key=True)
    n_results: Mapped[int] = mapped_column(Integer)
    doomed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # When it was gone from the store; the row is kept for a while longer.
    removed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AttemptRow(Base):
    """One failed attempt at one work unit; what the retry limit and a restart count by."""

    __tablename__ = "attempt"
    __table_args__ = (UniqueConstraint("request_number", "file_id", "entry_start", "attempt"),)

    number: Mapped[int] = mapped_column(Key, primary_key=True)
    request_number: Mapped[int] = mapped_column(ForeignKey("request.number", ondelete="CASCADE"))
    file_id: Mapped[int] = mapped_column(ForeignKey("dataset_file.id"), index=True)
    entry_start: Mapped[int] = mapped_column(BigInteger)
    attempt: Mapped[int] = mapped_column(Integer)
    reason: Mapped[str] = mapped_column(String(32))
    message: Mapped[str] = mapped_column(Text)
    seconds: Mapped[float] = mapped_column(Float)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    replicas: Mapped[ReplicaDocument | None] = mapped_column(Document)


class LeaseRow(Base):
    """Who does what only one process may do, and until when by this database's clock (seconds since 1970)."""

    __tablename__ = "lease"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(255))
    expires_at: Mapped[float] = mapped_column(Float)
