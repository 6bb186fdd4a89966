"""Certificates: by certbot from an ACME server, or uploaded."""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
import threading
import time
import zipfile
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from . import log, nginx
from .access import Access
from .audit_log import AuditLog
from .database import Database, Graph, Row, now
from .errors import ApiError, internal, invalid, not_found
from .hosts import with_any_name

FILES = ("certificate", "certificate_key", "intermediate_certificate")
_RENEW_WITHIN = timedelta(days=30)
_CHECK_EVERY_S = 3600
_COMMON = ("--config", "/etc/letsencrypt.ini", "--work-dir", "/tmp/letsencrypt-lib", "--logs-dir", "/data/logs")
_ALLOWED: Graph = {"owner": {}, "proxy_hosts": {}, "redirection_hosts": {}, "dead_hosts": {}, "streams": {}}
_HOSTS = ("proxy_hosts", "redirection_hosts", "dead_hosts", "streams")


class Certificates:
    def __init__(self, database: Database, audit_log: AuditLog) -> None:
        self._database = database
        self._audit_log = audit_log

    def find(self, access: Access, expand: Graph, query: str | None) -> list[Row]:
        access.require("certificates:list")
        where, values = ("nice_name like ?", [f"%{query}%"]) if query else ("1 = 1", [])
        if not access.sees_all:
            where, values = f"{where} and owner_user_id = ?", [*values, str(access.owner_id)]
        rows = self._database.rows("certificate", where, *values, order="nice_name, id")
        self._database.expand("certificate", rows, expand, _ALLOWED)
        return [_present(row) for row in rows]

    def get(self, access: Access, certificate_id: int, expand: Graph) -> Row:
        return _present(self._fetch(access, certificate_id, expand))

    def create(self, access: Access, data: Row) -> Row:
        if data["provider"] == "letsencrypt":
            return self.request(access, data.get("domain_names", []), data.get("meta", {}))
        access.require("certificates:create")
        row = {"nice_name": "", "domain_names": [], "meta": {}, "expires_on": now(), **data}
        row = {**row, "domain_names": sorted(row["domain_names"]), "owner_user_id": access.owner_id}
        certificate_id = self._database.insert("certificate", row)
        self._audit_log.add(access, "created", "certificate", certificate_id, _without_keys(row))
        return _present(self._fetch(access, certificate_id))

    def request(self, access: Access, names: list[str], meta: Row) -> Row:
        """Have certbot fetch a certificate; nothing looks for one that already covers the same names."""
        access.require("certificates:create")
        row = {
            "provider": "letsencrypt",
            "nice_name": ", ".join(names),
            "domain_names": sorted(names),
            "expires_on": now(),
            "meta": meta,
            "owner_user_id": access.owner_id,
        }
        certificate_id = self._database.insert("certificate", row)
        try:
            self._issue({**row, "id": certificate_id}, names)
            dates = _inspect(_live(certificate_id) / "fullchain.pem")
        except Exception:
            self._database.run("delete from certificate where id = ?", certificate_id)
            raise
        self._database.patch("certificate", certificate_id, {"expires_on": _moment(dates["dates"]["to"])})
        issued = _present(self._fetch(access, certificate_id))
        issued["meta"] = {**issued["meta"], "letsencrypt_certificate": dates}
        self._audit_log.add(access, "created", "certificate", certificate_id, issued)
        return issued

    def _issue(self, certificate: Row, names: list[str]) -> None:
        user = self._database.first("user", "id = ?", certificate["owner_user_id"])
        assert user is not None
        if certificate["meta"].get("dns_challenge"):
            raise internal("The stand-in has no DNS challenge plug-ins")
        hosts = with_any_name(self._database, names)
        with nginx.LOCK:
            for table, host in hosts:
                nginx.delete(table, host["id"])
            nginx.write_challenge_host(certificate)
        command = [
            *("certonly", "-n", *_COMMON, "--cert-name", f"npm-{certificate['id']}", "--agree-tos"),
            *("--authenticator", "webroot", "-m", user["email"], "--preferred-challenges", "http"),
            *("--domains", ",".join(certificate["domain_names"])),
            *_key_type(certificate),
        ]
        try:
            nginx.reload_or_500()
            _certbot(command)
        finally:
            # The hosts come back as bare rows: without certificate and access list, until each is saved again.
            # Upstream reloads before it writes them and leaves to chance what is served; here it is certain.
            with nginx.LOCK:
                nginx.delete("challenge", certificate["id"])
                for table, host in hosts:
                    nginx.write_host(table, host)
                nginx.reload_or_500()

    def renew(self, access: Access, certificate_id: int) -> Row:
        """Renew at once, due or not. nginx is not told: it serves the old certificate until something reloads it."""
        access.require("certificates:update")
        certificate = self._fetch(access, certificate_id)
        if certificate["provider"] != "letsencrypt":
            raise invalid("Only Let'sEncrypt certificates can be renewed")
        _certbot(
            [
                *("renew", "--force-renewal", *_COMMON, "--cert-name", f"npm-{certificate_id}"),
                *("--preferred-challenges", "http", "--no-random-sleep-on-renew", "--disable-hook-validation"),
                *_key_type(certificate),
            ]
        )
        dates = _inspect(_live(certificate_id) / "fullchain.pem")
        self._database.patch("certificate", certificate_id, {"expires_on": _moment(dates["dates"]["to"])})
        renewed = self._fetch(access, certificate_id)
        self._audit_log.add(access, "renewed", "certificate", certificate_id, renewed)
        return renewed

    def upload(self, access: Access, certificate_id: int, files: dict[str, str]) -> dict[str, str]:
        """Keep a certificate, its key and its chain; the answer repeats all three, key included."""
        certificate = self._fetch(access, certificate_id)
        if certificate["provider"] != "other":
            raise invalid("Cannot upload certificates for this type of provider")
        found = self.validate(files)
        if "certificate" not in found:
            raise invalid("Certificate file was not provided")
        access.require("certificates:update")
        meta = {**certificate["meta"], **{name: files[name] for name in FILES if name in files}}
        name = found["certificate"].get("cn")
        change = {
            "expires_on": _moment(found["certificate"]["dates"]["to"]),
            "domain_names": [name] if name else [],
            "meta": meta,
        }
        self._database.patch("certificate", certificate_id, change)
        self._audit_log.add(access, "updated", "certificate", certificate_id, _without_keys(change))
        folder = Path(f"/data/custom_ssl/npm-{certificate_id}")
        folder.mkdir(exist_ok=True)
        chain = [meta[name] for name in ("certificate", "intermediate_certificate") if name in meta]
        (folder / "fullchain.pem").write_text("\n".join(chain), encoding="utf-8")
        (folder / "privkey.pem").write_text(meta.get("certificate_key", "undefined"), encoding="utf-8")
        return {name: meta[name] for name in FILES if name in meta}

    def validate(self, files: dict[str, str]) -> dict[str, Any]:
        """Look at each file by itself: a key that does not belong to the certificate passes."""
        found: dict[str, Any] = {}
        for name in FILES:
            if name in files:
                with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
                    file.write(files[name])
                    file.flush()
                    check = _check_key if name == "certificate_key" else _check_certificate
                    found[name] = check(Path(file.name))
        return found

    def delete(self, access: Access, certificate_id: int) -> bool:
        """Delete, and let certbot revoke and remove the files. Hosts that use it are not looked at: nginx breaks."""
        access.require("certificates:delete", certificate_id)
        certificate = _present(self._fetch(access, certificate_id))
        self._database.patch("certificate", certificate_id, {"is_deleted": True})
        self._audit_log.add(access, "deleted", "certificate", certificate_id, _without_keys(certificate))
        if certificate["provider"] == "letsencrypt":
            pem = str(_live(certificate_id) / "fullchain.pem")
            with suppress(ApiError):
                _certbot(["revoke", *_COMMON, "--cert-path", pem, "--delete-after-revoke"])
        return True

    def download(self, access: Access, certificate_id: int) -> tuple[str, bytes]:
        access.require("certificates:get", certificate_id)
        certificate = self._fetch(access, certificate_id)
        if certificate["provider"] != "letsencrypt":
            raise invalid("Only Let'sEncrypt certificates can be downloaded")
        folder = _live(certificate_id)
        if not folder.is_dir():
            raise not_found(f"Certificate {certificate['nice_name']} does not exists")
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
            for pem in sorted(folder.glob("*.pem")):
                bundle.write(pem.resolve(), pem.resolve().name)
        return f"npm-{certificate_id}-{int(time.time() * 1000)}.zip", archive.getvalue()

    def keep_renewing(self, access: Access) -> None:
        """Start the thread that looks once an hour for what expires within 30 days."""
        threading.Thread(target=self._renew_forever, args=(access,), daemon=True).start()

    def _renew_forever(self, access: Access) -> None:
        log.write("SSL", "Let's Encrypt Renewal Timer initialized")
        while True:
            due = (datetime.now() + _RENEW_WITHIN).strftime("%Y-%m-%d %H:%M:%S")
            log.write("SSL", "Renewing SSL certs expiring within 30 days ...")
            for row in self._database.rows("certificate", "provider = 'letsencrypt' and expires_on < ?", due):
                try:
                    self.renew(access, row["id"])
                except ApiError as error:
                    log.write("SSL", error.message)
            log.write("SSL", "Completed SSL cert renew process")
            time.sleep(_CHECK_EVERY_S)

    def _fetch(self, access: Access, certificate_id: int, expand: Graph | None = None) -> Row:
        access.require("certificates:get", certificate_id)
        row = self._database.first("certificate", "id = ?", certificate_id)
        if row is None or not (access.sees_all or row["owner_user_id"] == access.owner_id):
            raise not_found(certificate_id)
        self._database.expand("certificate", [row], expand or {}, _ALLOWED)
        return row


def _present(row: Row) -> Row:
    for relation in _HOSTS:
        for host in row.get(relation, []):
            host.pop("is_deleted", None)
    if row.get("owner"):
        row["owner"].pop("is_deleted", None)
    row["meta"].pop("dns_provider_credentials", None)
    return {name: value for name, value in row.items() if name != "is_deleted"}


def _without_keys(row: Row) -> Row:
    return {**row, "meta": {name: True if name in FILES else value for name, value in row["meta"].items()}}


def _live(certificate_id: int) -> Path:
    return Path(f"/etc/letsencrypt/live/npm-{certificate_id}")


def _key_type(certificate: Row) -> list[str]:
    kind = certificate["meta"].get("key_type")
    return ["--key-type", kind] if kind else []


def _certbot(arguments: list[str]) -> None:
    command = ["certbot", *arguments]
    if os.environ.get("LE_SERVER"):
        command += ["--server", os.environ["LE_SERVER"]]
    elif os.environ.get("LE_STAGING"):
        command.append("--staging")
    log.write("SSL", f"Command: {' '.join(command)}")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        log.write("SSL", result.stderr)
        previous = {"code": result.returncode, "killed": False, "signal": None, "cmd": " ".join(command)}
        raise internal(result.stderr, previous=previous)


def _check_key(file: Path) -> bool:
    result = subprocess.run(
        ["openssl", "pkey", "-in", str(file), "-check", "-noout", "-passin", "pass:"],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        command = f"openssl pkey -in {file} -check -noout 2>&1 "
        code = {"code": result.returncode, "killed": False, "signal": None, "cmd": command}
        previous = {"name": "Error", "message": "", "code": code, "public": False}
        raise invalid("Certificate Key is not valid ()", previous=previous)
    return True


def _check_certificate(file: Path) -> dict[str, Any]:
    found = _inspect(file)
    if found["dates"]["to"] < time.time():
        message = "Certificate has expired"
        raise invalid(f"Certificate is not valid ({message})")
    return found


def _inspect(file: Path) -> dict[str, Any]:
    result = subprocess.run(
        ["openssl", "x509", "-in", str(file), "-noout", "-subject", "-issuer", "-dates"],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        command = f"openssl x509 -in {file} -subject -noout"
        cause = {"code": result.returncode, "killed": False, "signal": None, "cmd": command}
        previous = {"name": "Error", "previous": cause, "message": result.stderr, "code": 1, "public": False}
        raise invalid(f"Certificate is not valid ({result.stderr})", previous=previous)
    fields = dict(line.split("=", 1) for line in result.stdout.splitlines())
    dates = {"from": _epoch(fields["notBefore"]), "to": _epoch(fields["notAfter"])}
    found: dict[str, Any] = {"issuer": fields["issuer"], "dates": dates}
    # Upstream reads what follows the first equals sign of the subject, up to the next blank.
    name = fields["subject"].partition("=")[2].split()
    return {"cn": name[0], **found} if name else found


def _epoch(text: str) -> int:
    parsed = datetime.strptime(text.replace(" GMT", " +0000"), "%b %d %H:%M:%S %Y %z")
    return int(parsed.timestamp())


def _moment(epoch: int) -> str:
    return datetime.fromtimestamp(epoch).strftime("%Y-%m-%d %H:%M:%S")
