"""What an operation may raise; the HTTP layer alone turns it into an answer."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An answer with a status; the message reaches the client only if it is public, otherwise `Internal Error`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        public: bool = True,
        i18n: str | None = None,
        previous: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.public = public
        self.i18n = i18n
        self.previous = previous


class Denied(Exception):
    """Missing permission.

    Upstream loses this error on the way (a missing `new`), so the request falls through to the catch-all route: 404.
    """


def invalid(message: str, *, previous: dict[str, Any] | None = None) -> ApiError:
    """The client's data is wrong, and the client is told why."""
    return ApiError(400, message, previous=previous)


def not_found(what: object = None) -> ApiError:
    """Nothing there; `what` is an id or a path and is repeated to the client."""
    return ApiError(404, f"Not Found - {what}" if what else "Not Found")


def internal(message: str, *, status: int = 500, previous: dict[str, Any] | None = None) -> ApiError:
    """A failure whose text stays out of `error.message`; `debug.stack` shows it on certificate paths."""
    return ApiError(status, message, public=False, previous=previous)
