"""What can go wrong when somebody says who they are; http/problems.py turns it into an answer."""

from __future__ import annotations


class AuthError(Exception):
    """Base of all; the text is safe to show."""


class NotAuthenticated(AuthError):
    """Missing, wrong, expired or revoked. Which of them is not told: it would help only who guesses."""


class NotAllowed(AuthError):
    """Known, but without the scope this needs."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"this needs the scope {scope!r}, which the token does not have")
        self.scope = scope


class TooManyAttempts(AuthError):
    """Try again after `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("too many attempts; wait and try again")
        self.retry_after = max(1, int(retry_after + 0.999))


class DeviceFlowPending(AuthError):
    """An answer of RFC 8628 section 3.5 that is not a token: `code` is its registered name."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class BadCredentialInput(AuthError):
    """A name or password that cannot be one (too short, too long, unknown scope)."""
