"""Why the endpoint refuses a request, in S3's vocabulary of error codes."""

from __future__ import annotations

from http import HTTPStatus

from servicex_server.errors import ServicexError


class Refusal(ServicexError):
    """The S3 request is refused.

    Attributes:
        code: S3's name of the error, which clients compare with.
        status: the HTTP status that S3 pairs with it.
    """

    def __init__(self, code: str, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


def access_denied(message: str = "Access Denied") -> Refusal:
    return Refusal("AccessDenied", HTTPStatus.FORBIDDEN, message)


def invalid_access_key() -> Refusal:
    message = "The AWS Access Key Id you provided does not exist in our records."
    return Refusal("InvalidAccessKeyId", HTTPStatus.FORBIDDEN, message)


def signature_does_not_match() -> Refusal:
    message = "The request signature we calculated does not match the signature you provided; check your key."
    return Refusal("SignatureDoesNotMatch", HTTPStatus.FORBIDDEN, message)


def time_too_skewed() -> Refusal:
    message = "The difference between the request time and the server's time is larger than 15 minutes."
    return Refusal("RequestTimeTooSkewed", HTTPStatus.FORBIDDEN, message)


def malformed_authorization(message: str) -> Refusal:
    return Refusal("AuthorizationHeaderMalformed", HTTPStatus.BAD_REQUEST, message)


def malformed_query_authorization(message: str) -> Refusal:
    return Refusal("AuthorizationQueryParametersError", HTTPStatus.BAD_REQUEST, message)


def invalid_argument(message: str) -> Refusal:
    return Refusal("InvalidArgument", HTTPStatus.BAD_REQUEST, message)


def invalid_uri(message: str) -> Refusal:
    return Refusal("InvalidURI", HTTPStatus.BAD_REQUEST, message)


def key_too_long(max_bytes: int) -> Refusal:
    return Refusal("KeyTooLongError", HTTPStatus.BAD_REQUEST, f"A key has at most {max_bytes} bytes.")


def headers_too_large(max_bytes: int) -> Refusal:
    message = f"The headers exceed {max_bytes} bytes."
    return Refusal("RequestHeaderSectionTooLarge", HTTPStatus.BAD_REQUEST, message)


def hash_mismatch() -> Refusal:
    message = "The provided x-amz-content-sha256 header does not match what was computed."
    return Refusal("XAmzContentSHA256Mismatch", HTTPStatus.BAD_REQUEST, message)


def no_such_bucket() -> Refusal:
    return Refusal(
        "NoSuchBucket", HTTPStatus.NOT_FOUND, "The request whose results these are no longer exists."
    )


def no_such_key() -> Refusal:
    return Refusal("NoSuchKey", HTTPStatus.NOT_FOUND, "The specified key does not exist.")


def method_not_allowed() -> Refusal:
    message = "Results can only be read here: GET and HEAD are allowed."
    return Refusal("MethodNotAllowed", HTTPStatus.METHOD_NOT_ALLOWED, message)


def not_implemented(parameter: str) -> Refusal:
    message = f"There is no ?{parameter} here; objects, listings and the bucket's location can be read."
    return Refusal("NotImplemented", HTTPStatus.NOT_IMPLEMENTED, message)


def precondition_failed() -> Refusal:
    message = "At least one of the preconditions you specified did not hold."
    return Refusal("PreconditionFailed", HTTPStatus.PRECONDITION_FAILED, message)


def invalid_range(size_bytes: int) -> Refusal:
    message = f"The requested range does not lie within the object's {size_bytes} bytes."
    return Refusal("InvalidRange", HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, message)


def internal_error() -> Refusal:
    message = "We encountered an internal error; please try again."
    return Refusal("InternalError", HTTPStatus.INTERNAL_SERVER_ERROR, message)


def slow_down() -> Refusal:
    message = "The server is at one of its limits; please reduce your request rate."
    return Refusal("SlowDown", HTTPStatus.SERVICE_UNAVAILABLE, message)
