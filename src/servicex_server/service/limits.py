"""Every bound and interval that the use cases obey, as plain values from the composition root."""

from __future__ import annotations

from dataclasses import dataclass, field

from servicex_server.service.retention import Retention


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server; the defaults suit a laptop and a shared deployment alike.

    Attributes:
        selection_bytes: longest selection, in UTF-8.
        title_characters: longest title; clients read it from the capability `long_sample_titles_10240`.
        files: longest file list.
        path_characters: longest path or URL of one input.
        listed_requests: newest requests that a list shows.
        dataset_files: most files of a data set that is looked up.
        lookup_max_age_s: an earlier look-up is good for so long.
        lookup_silence_s: a look-up of which nothing was heard for so long has failed.
        lookup_settle_s: files may arrive so long after their finder said that it has sent them.
        lookup_slots: look-ups at once by finders inside this process.
        preflight_files: files tried before fan-out; 0 switches preflight off.
        preflight_wait_s: how long a submit waits for the preflight before it answers with the id.
        preflight_deadline_s: how long a worker may take for it.
        preflight_patience_s: after this long without an outcome the request goes on without preflight.
        file_deadline_s: longest time for one attempt at one file.
        max_attempts: attempts at one file before it counts as failed.
        retry_backoff_s: pause before the second attempt; doubles with each further one.
        request_deadline_s: longest life of an unfinished request.
        publish_page: units handed to the queue at a time, so that requests take turns.
        publish_retry_s: pause after the queue was at its bound.
        report_batch: reports recorded in one transaction.
        sweep_interval_s: pause between two rounds of the sweeper.
        audit_interval_s: pause between two counts of all results of requests that go on.
        scratch_age_s: unfinished worker files older than this are removed.
        waiter_poll_s: how often one that waits for a request looks, where hints may get lost.
        catch_up_interval_s: how often the leader looks for requests of which no hint told it.
        lease_ttl_s: how long a leader that is silent remains the leader.
        lease_renew_s: how often it renews its lease, and others ask for it.
        orphan_interval_s: pause between two searches of the store for objects of requests that are gone.
        submit_free_bytes: new requests are refused when less than this is free on the store's disk.
        retention: how long results are kept.
        stream_page: outcomes that an event stream reads at a time.
        stream_poll_s: how often an event stream looks without being told to.
        stream_pause_s: shortest time between two looks of one that has caught up.
        stream_quiet_s: after this long without news a stream says that it lives.
        stream_life_s: longest life of a stream; its reader then comes again, and shows who he is.
        orphan_age_s: shared objects younger than this may be about to be reported.
        user_requests: unfinished requests of one user.
        user_files: files without an outcome in unfinished requests of one user.
    """

    selection_bytes: int = 2**20
    title_characters: int = 10_240
    files: int = 100_000
    path_characters: int = 4_096
    listed_requests: int = 2_000
    dataset_files: int = 1_000_000
    lookup_max_age_s: float = 86400.0
    lookup_silence_s: float = 1800.0
    lookup_settle_s: float = 60.0
    lookup_slots: int = 8
    preflight_files: int = 3
    preflight_wait_s: float = 20.0
    preflight_deadline_s: float = 60.0
    preflight_patience_s: float = 300.0
    file_deadline_s: float = 3600.0
    max_attempts: int = 3
    retry_backoff_s: float = 1.0
    request_deadline_s: float = 7 * 86400.0
    publish_page: int = 500
    publish_retry_s: float = 0.5
    report_batch: int = 200
    sweep_interval_s: float = 30.0
    audit_interval_s: float = 600.0
    scratch_age_s: float = 86400.0
    waiter_poll_s: float = 1.0
    catch_up_interval_s: float = 5.0
    lease_ttl_s: float = 6.0
    lease_renew_s: float = 2.0
    orphan_interval_s: float = 86400.0
    submit_free_bytes: int = 0
    retention: Retention = field(default_factory=Retention)
    stream_page: int = 500
    stream_poll_s: float = 1.0
    stream_pause_s: float = 0.1
    stream_quiet_s: float = 15.0
    stream_life_s: float = 3600.0
    orphan_age_s: float = 2 * 86400.0
    user_requests: int = 5_000
    user_files: int = 500_000
