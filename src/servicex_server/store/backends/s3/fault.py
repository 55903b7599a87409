"""What the store's errors mean, and what to do about them."""

from __future__ import annotations

import re

from servicex_server.errors import ResourceExhausted, ServicexError, StoreRefused, StoreUnavailable
from servicex_server.store.backends.s3.place import S3Place

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,80})</Code>")
_CREDENTIALS = re.compile(r"credential provider: ConfigurationError: ([^\n]{1,500})")
"""How obstore tells that our own source of credentials had none."""
_TEXT = re.compile(r"<Message>([^<]{1,300})</Message>")

_FULL_STATUS = 507
_FULL = frozenset(
    {
        *("QuotaExceeded", "InsufficientStorage", "StorageFull", "EntityTooLarge", "XMinioStorageFull"),
        *("XMinioAdminBucketQuotaExceeded", "XAmzQuotaExceeded", "InsufficientCapacity"),
    }
)
_FULL_WORDS = (
    "no writable volumes",
    "writable volumes",
    "no free volumes",
    "no space left",
    "not enough space",
)
_CLOCKS = "the clocks of this machine and of the store differ by minutes; set them right (NTP)"
_ADVICE = {
    "NoSuchBucket": "it has no such bucket; create it, or correct the store's URL",
    "InvalidAccessKeyId": "it does not know the access key; correct the credentials",
    "SignatureDoesNotMatch": "the secret key does not fit the access key; correct the credentials",
    "ExpiredToken": "the credentials have expired; renew them",
    "InvalidToken": "the session token is not valid; renew the credentials",
    "AccessDenied": "the access key may not do that; it needs to read, write, list and delete in the bucket",
    "RequestTimeTooSkewed": _CLOCKS,
    "RequestExpired": _CLOCKS,
    "AuthorizationHeaderMalformed": "requests are signed for the wrong region; correct the store's region",
    "PermanentRedirect": "the bucket is elsewhere; correct the store's endpoint and region",
}
_BY_STATUS = {
    301: _ADVICE["PermanentRedirect"],
    401: _ADVICE["InvalidAccessKeyId"],
    # An answer to HEAD has no body that would say more.
    403: "the credentials are wrong, or may not read, write, list and delete in the bucket",
    404: _ADVICE["NoSuchBucket"],
}
_PASSING = frozenset({408, 409, 425, 429})
_PASSING_CODES = frozenset({"SlowDown", "Throttling", "RequestTimeout", "OperationAborted", "IncompleteBody"})


def to_fault(error: Exception, place: S3Place) -> ServicexError:
    """The error of ours that a call to the store ended in; tells status and code, never headers."""
    text = str(error)
    if (lacking := _CREDENTIALS.search(text)) is not None:
        return StoreRefused(lacking.group(1))
    status, code, words = read_answer(text)
    if code in _FULL or status == _FULL_STATUS or any(part in words.lower() for part in _FULL_WORDS):
        return ResourceExhausted(f"the result store is full ({code or status}); nothing was stored")
    if status is None:
        return StoreUnavailable(f"the result store {place} cannot be reached: {_cause(text)}")
    if status >= 500 or status in _PASSING or code in _PASSING_CODES:
        # SeaweedFS, for one, has no other word for a full disk.
        hint = "; it may be full" if status == 500 else ""
        return StoreUnavailable(f"the result store {place} has an error of its own ({code or status}){hint}")
    advice = _ADVICE.get(code) or _BY_STATUS.get(status) or words or "it gives no reason"
    return StoreRefused(f"the result store {place} refuses: {advice} ({code or status})")


def read_answer(text: str) -> tuple[int | None, str, str]:
    """Status, code and message of the answer that obstore tells of; no status if there was none."""
    status = _STATUS.search(text)
    if status is None:
        return None, "", ""
    # Before it stands the key, which may hold anything.
    body = text[status.end() :]
    code, words = _CODE.search(body), _TEXT.search(body)
    return int(status.group(1)), code.group(1) if code else "", words.group(1) if words else ""


def is_absent(error: Exception) -> bool:
    """Whether the object is not there (of a missing bucket that is not said)."""
    status, code, _ = read_answer(str(error))
    return status == 404 and code != "NoSuchBucket"


def is_outside(error: Exception) -> bool:
    """Whether the range begins behind the object's end."""
    return read_answer(str(error))[0] == 416


def is_replaced(error: Exception) -> bool:
    """Whether the object is another one than we began to read."""
    return read_answer(str(error))[0] == 412


def _cause(text: str) -> str:
    """The innermost words of obstore's long story that a person can use."""
    for words in (
        "Connection refused",
        "dns error",
        "timed out",
        "TimedOut",
        "certificate",
        "Connection reset",
    ):
        if words.lower() in text.lower():
            return words.replace("TimedOut", "timed out").lower()
    return "the connection broke"
