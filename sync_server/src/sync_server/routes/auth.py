"""Logging in, devices, app passwords."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from sync_protocol.types import (
    AppPassword,
    AppPasswordRequest,
    AuditEntry,
    AuditPage,
    DeviceApproveRequest,
    DeviceCodeAnswer,
    DeviceCodeRequest,
    DeviceEntry,
    DeviceList,
    DevicePending,
    DeviceTokenRequest,
    LoginRequest,
    PasswordRequest,
    RefreshRequest,
    TokenPair,
)
from sync_server.auth.device_flow import LIFETIME, UNKNOWN
from sync_server.auth.errors import NotAllowed, NotAuthenticated, TooManyAttempts
from sync_server.auth.service import Login
from sync_server.http import answers
from sync_server.http.call import Call
from sync_server.http.problems import ProblemError
from sync_server.http.routing import Routes

if TYPE_CHECKING:
    from starlette.types import ASGIApp

routes = Routes("who")

DeviceId = Annotated[str, Meta(pattern="^[1-9][0-9]{0,17}$", examples=["1"])]


class PairingQuery(Struct, frozen=True, forbid_unknown_fields=True):
    user_code: Annotated[str, Meta(min_length=1, max_length=32)]


class AuditQuery(Struct, frozen=True, forbid_unknown_fields=True):
    before: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


def _tokens(call: Call, login: Login) -> ASGIApp:
    return answers.json(
        call,
        TokenPair(
            access_token=login.access_token,
            expires_in=login.expires_in,
            refresh_token=login.refresh_token,
            device=str(login.device.id),
            scope=" ".join(sorted(login.device.scopes)),
        ),
    )


@routes("POST", "/auth/login", scope=None, body=LoginRequest, answers={200: TokenPair}, problems=(401,))
async def login(call: Call) -> ASGIApp:
    """Log in with the account's password, as a new device.

    Failed attempts are limited for each account and address together (five, then one each 12 seconds) and for each
    address; other addresses and devices that are logged in are not affected.
    """
    request = await call.json(LoginRequest)
    try:
        done = await call.services.auth.login(
            request.user, request.password, request.device, request.scope, call.address
        )
    except (NotAuthenticated, TooManyAttempts):
        call.services.metrics.logins.labels("refused").inc()
        raise
    call.services.metrics.logins.labels("ok").inc()
    return _tokens(call, done)


@routes("POST", "/auth/refresh", scope=None, body=RefreshRequest, answers={200: TokenPair}, problems=(401,))
async def refresh(call: Call) -> ASGIApp:
    """Exchange the refresh token for the next one and a new access token.

    Each refresh token is good once: store the new one before using what came with it. When the answer was lost, send
    the same token again: it is answered as long as its successor was never used. Once the successor was used, showing
    the old token proves that there is a copy of it, and the device is cut off.
    """
    request = await call.json(RefreshRequest)
    return _tokens(call, await call.services.auth.refresh(request.refresh_token, call.address))


@routes("POST", "/auth/logout", scope="read", answers={204: None})
async def logout(call: Call) -> ASGIApp:
    """End this device: all its tokens are worthless from now on."""
    await call.services.auth.logout(call.identity, call.address)
    return answers.empty()


@routes("POST", "/auth/password", scope="account", body=PasswordRequest, answers={204: None})
async def change_password(call: Call) -> ASGIApp:
    """Change the account's password and log out every other device. App passwords stay."""
    request = await call.json(PasswordRequest)
    await call.services.auth.change_password(call.identity, request.old, request.new, call.address)
    return answers.empty()


@routes("POST", "/auth/device/code", scope=None, body=DeviceCodeRequest, answers={200: DeviceCodeAnswer})
async def begin_pairing(call: Call) -> ASGIApp:
    """Get a code to show, which a device that is logged in approves (the shape of RFC 8628)."""
    request = await call.json(DeviceCodeRequest)
    secret, pending = call.services.auth.begin_pairing(request.device, request.scope, call.address)
    return answers.json(
        call,
        DeviceCodeAnswer(
            device_code=secret,
            user_code=pending.user_code,
            verification_uri=call.config.public_url or "/",
            expires_in=LIFETIME,
            interval=pending.interval,
        ),
    )


@routes(
    "GET", "/auth/device/pending", scope="account", query=PairingQuery, answers={200: DevicePending}, problems=(404,)
)
async def show_pairing(call: Call) -> ASGIApp:
    """Say what a shown code is about, before it is approved."""
    query = call.query(PairingQuery)
    pending = call.services.auth.find_pairing(call.identity, query.user_code)
    if pending is None:
        raise ProblemError("not-found", f"{UNKNOWN}; have the device show a new one")
    return answers.json(call, DevicePending(pending.device_name, " ".join(sorted(pending.scopes)), pending.address))


@routes(
    "POST", "/auth/device/approve", scope="account", body=DeviceApproveRequest, answers={204: None}, problems=(404,)
)
async def decide_pairing(call: Call) -> ASGIApp:
    """Approve a code, or turn it down."""
    request = await call.json(DeviceApproveRequest)
    done = await call.services.auth.decide_pairing(call.identity, request.user_code, request.approve, call.address)
    if done is None:
        raise ProblemError("not-found", f"{UNKNOWN}; have the device show a new one")
    return answers.empty()


@routes("POST", "/auth/device/token", scope=None, body=DeviceTokenRequest, answers={200: TokenPair})
async def poll_pairing(call: Call) -> ASGIApp:
    """Fetch the tokens of an approved code.

    Until then the answer is 400 with `error`: authorization_pending (ask again after the interval), slow_down (five
    seconds are added to it), access_denied or expired_token.
    """
    request = await call.json(DeviceTokenRequest)
    return _tokens(call, await call.services.auth.poll_pairing(request.device_code, call.address))


@routes("GET", "/devices", scope="read", answers={200: DeviceList})
async def list_devices(call: Call) -> ASGIApp:
    """List the devices and app passwords of the account."""
    return answers.json(
        call,
        DeviceList(
            [
                DeviceEntry(
                    id=str(device.id),
                    name=device.name,
                    kind=device.kind,
                    created=device.created_at * 1000,
                    last_seen=device.last_seen_at * 1000,
                    current=device.id == call.identity.device_id,
                    scope=" ".join(sorted(device.scopes)),
                    last_address=device.last_address,
                )
                for device in call.services.auth.devices(call.identity)
            ]
        ),
    )


@routes("DELETE", "/devices/{device}", scope="read", words=(DeviceId,), answers={204: None})
async def revoke_device(call: Call) -> ASGIApp:
    """Cut a device off, at once. Another one than the asking device needs the scope account."""
    device_id = int(call.word(0, DeviceId, "device"))
    if device_id != call.identity.device_id and "account" not in call.identity.scopes:
        raise NotAllowed("account")
    if not await call.services.auth.revoke_device(call.identity, device_id, call.address):
        raise ProblemError("not-found", "there is no such device")
    return answers.empty()


@routes("POST", "/app-passwords", scope="account", body=AppPasswordRequest, answers={201: AppPassword})
async def add_app_password(call: Call) -> ASGIApp:
    """Make a password for one program, to be used with the account's name as HTTP Basic. It is shown only now.

    It is listed, and revoked, among the devices.
    """
    request = await call.json(AppPasswordRequest)
    device, password = await call.services.auth.add_app_password(
        call.identity, request.name, request.scope, call.address
    )
    return answers.json(call, AppPassword(str(device.id), device.name, password), 201)


@routes("GET", "/audit", scope="account", query=AuditQuery, answers={200: AuditPage})
async def audit(call: Call) -> ASGIApp:
    """List logins, failed logins, revocations and the like, the newest first."""
    query = call.query(AuditQuery)
    entries = call.services.auth.audit_log(call.identity, query.before, query.limit)
    return answers.json(
        call,
        AuditPage(
            [
                AuditEntry(
                    id=entry.id,
                    time=entry.at * 1000,
                    event=entry.event,
                    address=entry.address,
                    device=None if entry.device_id is None else str(entry.device_id),
                    detail=entry.detail,
                )
                for entry in entries
            ],
            entries[-1].id if len(entries) == query.limit else None,
        ),
    )
