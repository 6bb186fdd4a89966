"""Access tokens: short-lived JWTs, checked without the database."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import jwt

from sync_server.auth.errors import NotAuthenticated
from sync_server.store.interface import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sync_server.auth.keys import Keys

_ALGORITHM = "HS256"
_MAX_TOKEN_CHARS = 2048
_CACHED_TOKENS = 1024


class AccessTokens:
    """Makes and checks access tokens.

    `epochs` is the live table {device id: epoch} of devices that are not revoked: it is asked for every request, cached
    or not, so that a revocation counts at once.
    """

    def __init__(
        self, keys: Keys, lifetime: int, epochs: Mapping[int, int], clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._lifetime = lifetime
        self._epochs = epochs
        self._clock = clock
        # A signature costs more than the rest of a small request.
        self._verified: OrderedDict[str, tuple[Identity, float, int]] = OrderedDict()

    def issue(self, identity: Identity, epoch: int) -> str:
        """A token for this identity, good for the configured time."""
        now = int(self._clock())
        claims = {
            "sub": str(identity.account_id),
            "dev": identity.device_id,
            "epoch": epoch,
            "scope": " ".join(sorted(identity.scopes)),
            "iat": now,
            "exp": now + self._lifetime,
        }
        return jwt.encode(claims, self._keys.access, algorithm=_ALGORITHM, headers={"kid": self._keys.kid})

    def verify(self, token: str) -> Identity:
        """Whose token this is; raises NotAuthenticated for every flaw alike."""
        known = self._verified.get(token)
        if known is None:
            known = self._decode(token)
            self._verified[token] = known
            if len(self._verified) > _CACHED_TOKENS:
                self._verified.popitem(last=False)
        identity, expires, epoch = known
        if expires <= self._clock() or self._epochs.get(identity.device_id) != epoch:
            self._verified.pop(token, None)
            raise NotAuthenticated("the access token has expired or was revoked")
        return identity

    def _decode(self, token: str) -> tuple[Identity, float, int]:
        if len(token) > _MAX_TOKEN_CHARS:
            raise NotAuthenticated("not a valid access token")
        try:
            decoded = jwt.decode_complete(
                token,
                self._keys.access,
                # Pinned: a token never says how it is to be checked.
                algorithms=[_ALGORITHM],
                options={
                    "require": ["exp", "iat", "sub", "dev", "epoch", "scope"],
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
            claims: dict[str, Any] = decoded["payload"]
            if decoded["header"].get("kid") != self._keys.kid:
                raise NotAuthenticated("not a valid access token")
            device, epoch, expires = claims["dev"], claims["epoch"], claims["exp"]
            if not (type(device) is int and type(epoch) is int and type(expires) is int):
                raise NotAuthenticated("not a valid access token")
            identity = Identity(int(claims["sub"]), device, frozenset(str(claims["scope"]).split()))
        except (jwt.PyJWTError, ValueError, KeyError, TypeError, RecursionError):
            raise NotAuthenticated("not a valid access token") from None
        return identity, expires, epoch
