"""JSON Web Tokens signed with the RSA key in /data/keys.json."""

from __future__ import annotations

import base64
import calendar
import json
import re
import secrets
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt  # type: ignore[import-not-found]  # a Debian package, installed in the image only

from .errors import ApiError, internal, invalid

_SPANS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class Keys:
    """The key pair; made on first use and kept, readable by all, as upstream leaves it."""

    def __init__(self, file: Path) -> None:
        if not file.exists():
            private = _openssl("genrsa", "-traditional", "2048")
            pair = {"key": private.strip(), "pub": _openssl("rsa", "-pubout", stdin=private).strip()}
            file.write_text(json.dumps(pair, indent=2), encoding="utf-8")
        pair = json.loads(file.read_text(encoding="utf-8"))
        self.private: str = pair["key"]
        self.public: str = pair["pub"]

    def sign(self, user_id: int, scope: list[str], expiry: str) -> dict[str, str]:
        """Return a token and the moment it expires; `expiry` is a number and a unit such as `1d` or `1y`."""
        issued = datetime.now(UTC)
        expires = _later(issued, expiry)
        payload = {
            "iss": "api",
            "attrs": {"id": user_id},
            "scope": scope,
            "expiresIn": expiry,
            "jti": base64.b64encode(secrets.token_bytes(12)).decode(),
            "iat": int(issued.timestamp()),
            "exp": int(expires.timestamp()),
        }
        moment = expires.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"token": jwt.encode(payload, self.private, algorithm="RS256"), "expires": moment}

    def read(self, token: str) -> dict[str, Any]:
        """Return the payload of a valid token; an expired one is a 400, anything else a 500 as upstream answers."""
        try:
            payload: dict[str, Any] = jwt.decode(token, self.public, algorithms=["RS256"])
        except jwt.ExpiredSignatureError:
            raise invalid("Token has expired") from None
        except jwt.InvalidTokenError as error:
            raise internal(str(error)) from None
        return payload


def wrong_login(*, i18n: bool = True) -> ApiError:
    """The one answer to an unknown e-mail (which carries no translation key) and to a wrong password (which does)."""
    return ApiError(400, "Invalid email or password", i18n="error.invalid-auth" if i18n else None)


def _later(start: datetime, expiry: str) -> datetime:
    match = re.fullmatch(r"([0-9]+)(y|Q|M|w|d|h|m|s|ms)", expiry)
    if not match:
        raise invalid(f"Invalid expiry time: {expiry}")
    amount, unit = int(match[1]), match[2]
    if unit in _SPANS:
        return start + timedelta(seconds=amount * _SPANS[unit])
    months = start.year * 12 + start.month - 1 + amount * {"y": 12, "Q": 3, "M": 1}[unit]
    year, month = divmod(months, 12)
    return start.replace(year=year, month=month + 1, day=min(start.day, calendar.monthrange(year, month + 1)[1]))


def _openssl(*arguments: str, stdin: str = "") -> str:
    result = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, text=True, check=True)
    return result.stdout
