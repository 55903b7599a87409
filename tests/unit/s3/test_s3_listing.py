"""Pages of a listing, against the plain meaning of prefix, delimiter and order."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from servicex_server.api.s3.listing import read_page
from servicex_server.model.bucket import BucketKey, BucketObject, MemoryBuckets
from servicex_server.model.ids import RequestId

BUCKET = RequestId("6b0f6ba8-9f0d-4ff1-8b8f-1f1f0d7c9a11")
KEYS = st.sets(st.text("ab/:\uffff\U0010ffff", min_size=1, max_size=6), max_size=25)


def fill(keys: set[str]) -> MemoryBuckets:
    buckets = MemoryBuckets()
    buckets.add_bucket(BucketKey("AK", "secret", BUCKET))
    for key in keys:
        buckets.add_object(BUCKET, BucketObject(key, 1, "e-1", datetime(2026, 1, 1, tzinfo=UTC), "s"))
    return buckets


def expect(keys: set[str], prefix: str, delimiter: str) -> list[str]:
    """Keys and common prefixes in order, each once."""
    entries: list[str] = []
    for key in sorted(keys, key=str.encode):
        if not key.startswith(prefix):
            continue
        before, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        entry = prefix + before + found if found else key
        if not entries or entries[-1] != entry:
            entries.append(entry)
    return entries


@given(
    keys=KEYS,
    prefix=st.text("ab/", max_size=2),
    delimiter=st.sampled_from(["", "/", ":", "a", "/a"]),
    limit=st.integers(1, 7),
)
@settings(max_examples=300, deadline=None)
async def test_pages_add_up(keys: set[str], prefix: str, delimiter: str, limit: int) -> None:
    buckets = fill(keys)
    entries: list[str] = []
    after: str | None = None
    for _ in range(len(keys) + 1):
        page = await read_page(buckets, BUCKET, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        here = sorted([*(found.key for found in page.objects), *page.prefixes], key=str.encode)
        entries.extend(here)
        if not page.is_truncated:
            break
        assert len(here) == limit
        assert page.last == here[-1]
        after = page.last
    else:
        message = "the listing does not end"
        raise AssertionError(message)
    assert entries == expect(keys, prefix, delimiter)


async def test_a_large_common_prefix_costs_few_questions() -> None:
    asked: list[int] = []

    class Counting(MemoryBuckets):
        async def list_objects(
            self, bucket: RequestId, *, prefix: str, after: str | None, limit: int
        ) -> list[BucketObject]:
            asked.append(limit)
            return await super().list_objects(bucket, prefix=prefix, after=after, limit=limit)

    buckets = Counting()
    buckets.add_bucket(BucketKey("AK", "secret", BUCKET))
    for n in range(5000):
        buckets.add_object(BUCKET, BucketObject(f"a/{n}", 1, "e", datetime(2026, 1, 1, tzinfo=UTC), "s"))
    page = await read_page(buckets, BUCKET, prefix="", delimiter="/", after=None, limit=1000)
    assert (page.prefixes, page.objects, page.is_truncated) == (("a/",), (), False)
    assert len(asked) <= 2
