"""Every refusal that a caller can meet. ``api.routes`` turns them into problem+json (RFC 9457).

Refusal
├── Unauthenticated     401
├── Forbidden           403   the token lacks a scope
├── NotFound            404   no such job, no such path
├── MethodNotAllowed    405
├── WrongState          409   carries the job's state
├── TooLarge            413
├── UnsupportedMedia    415
├── Unusable            422   names the fields to change
└── Busy                503   the store or the storage is away: the same call may succeed later
"""


class ConfigurationError(Exception):
    """An operator's mistake in a setting, a file or a credential; the message names what to change.

    Not a Refusal: the caller cannot mend it. It is answered with 503 and logged as an ERROR, and a delivery that meets
    it is not lost: the same call succeeds once the mistake is mended.
    """


class Refusal(Exception):  # noqa: N818 -- a refusal is the system at work, not its error
    """A request that is answered with an explanation, and changes nothing."""

    status = 500
    title = "refused"

    def __init__(self, detail: str, **members: object) -> None:
        super().__init__(detail)
        self.members = members


class Unauthenticated(Refusal):
    """Who calls is not known."""

    status = 401
    title = "token missing, malformed, expired, or meant for something else"


class Forbidden(Refusal):
    """The token lacks a scope."""

    status = 403
    title = "the token does not allow this"


class NotFound(Refusal):
    """There is no such job or path."""

    status = 404
    title = "no such thing"


class MethodNotAllowed(Refusal):
    """The path is there, the method is not."""

    status = 405
    title = "method not allowed here"


class WrongState(Refusal):
    """The job is past this; ``members["state"]`` says where it is."""

    status = 409
    title = "the job is past this"


class TooLarge(Refusal):
    """The body is over the limit."""

    status = 413
    title = "the body is too large"


class UnsupportedMedia(Refusal):
    """The body is not JSON by its own word."""

    status = 415
    title = "the body is not JSON"


class Unusable(Refusal):
    """A field cannot be used; ``members["errors"]`` names it."""

    status = 422
    title = "the request cannot be used"


class Busy(Refusal):
    """The store or the storage is away for now."""

    status = 503
    title = "busy or away, try again"


def unusable_field(field: str, detail: str) -> Unusable:
    """Return the refusal of one field, worded alike everywhere."""
    return Unusable(f"{field}: {detail}", errors=[{"field": field, "detail": detail}])
