"""All errors that a caller can receive. ``api.routes`` turns them into problem+json (RFC 9457).

Refusal
├── Unauthenticated     401
├── Forbidden           403   the token lacks a scope
├── NotFound            404   no such job, no such path
├── MethodNotAllowed    405
├── WrongState          409   carries the job's state
├── InUse               409   carries the jobs that use it
├── TooLarge            413
├── UnsupportedMedia    415
├── Unusable            422   names the fields to change
├── TooMany             429   says when to try again
└── Busy                503   the store or the storage is unavailable: retry later
"""


class ConfigurationError(Exception):
    """An operator's mistake in a setting, a file or a credential; the message names what to change.

    Not a Refusal, because the caller cannot fix it. The response is a 503, so that deliveries are retried and none is
    lost; the log has an ERROR.
    """


class Refusal(Exception):  # noqa: N818 -- the request is at fault, not Stoker
    """The request is refused with an explanation, and changes nothing."""

    status = 500
    title = "refused"

    def __init__(self, detail: str, **members: object) -> None:
        super().__init__(detail)
        self.members = members


class Unauthenticated(Refusal):
    """The caller cannot be authenticated."""

    status = 401
    title = "token missing, malformed, expired, or meant for something else"


class Forbidden(Refusal):
    """The token lacks a scope."""

    status = 403
    title = "the token does not allow this"


class NotFound(Refusal):
    """There is no such job or path."""

    status = 404
    title = "not found"


class MethodNotAllowed(Refusal):
    """The path exists, but does not take this method."""

    status = 405
    title = "method not allowed"


class WrongState(Refusal):
    """The job's state does not allow this; ``members["state"]`` is the state."""

    status = 409
    title = "the job's state does not allow this"


class InUse(Refusal):
    """Open jobs use what should be deleted; ``members["jobs"]`` are their ids."""

    status = 409
    title = "open jobs use this"


class TooLarge(Refusal):
    """The body is over the limit."""

    status = 413
    title = "the body is too large"


class UnsupportedMedia(Refusal):
    """The Content-Type is not JSON."""

    status = 415
    title = "the Content-Type is not JSON"


class Unusable(Refusal):
    """A field cannot be used; ``members["errors"]`` names it."""

    status = 422
    title = "the request cannot be used"


class TooMany(Refusal):
    """The caller has reached a limit; ``members["retry_after_seconds"]`` says when to try again."""

    status = 429
    title = "too many requests"


class Busy(Refusal):
    """The store or the storage is busy or unavailable."""

    status = 503
    title = "busy or unavailable, try again"


def unusable_field(field: str, detail: str) -> Unusable:
    """Return the error for one field, in the format that all fields' errors have."""
    return Unusable(f"{field}: {detail}", errors=[{"field": field, "detail": detail}])
