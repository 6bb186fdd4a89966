"""Throwaway certificates."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path


def self_signed(name: str, *, days: int = 90) -> tuple[str, str]:
    """Return a certificate for a name and its key, both PEM."""
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        options = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", str(days)]
        subprocess.run(
            [*command, *options, "-keyout", str(key), "-out", str(certificate)],
            capture_output=True,
            check=True,
            timeout=30,
        )
        return certificate.read_text(encoding="ascii"), key.read_text(encoding="ascii")
