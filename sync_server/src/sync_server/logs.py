"""Logs of one JSON object a line, without secrets."""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from sync_server.config import Config

# What the server itself hands out, and headers that carry it: a mistake elsewhere must not put one into a log.
_SECRETS = re.compile(
    r"(?i)(bearer|basic)\s+[a-z0-9._~+/=-]{6,}"
    r"|\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    r"|\bs[rad]_[A-Za-z0-9_-]{20,}"
    r"|\$argon2[a-z]*\$[^\s\"']+"
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def without_secrets(text: str) -> str:
    """The text with tokens and hashes blanked."""
    return _SECRETS.sub("[secret]", text)


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, what was passed as `extra`, and the trace of an error."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and not name.startswith("_"):
                entry[name] = without_secrets(value) if isinstance(value, str) else value
        if record.exc_info:
            entry["error"] = without_secrets(self.formatException(record.exc_info))
        return msgspec.json.encode(entry, enc_hook=str).decode()


class TextFormatter(logging.Formatter):
    """The same for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def set_up(config: Config) -> None:
    """Send every log of this process to standard error in the format of the configuration."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if config.log_format == "json" else TextFormatter())
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler], force=True)
