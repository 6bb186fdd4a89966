# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where OpenDKIM and Rspamd look for keys, as docker-mailserver arranges them.

Private: other collections must not import it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_key import ed25519_seed
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_record import DkimError

# As the container sees them: docker-mailserver copies the first out of its settings, and reads the second in place.
OPENDKIM_KEYS = "/etc/opendkim/keys"
RSPAMD_KEYS = "/tmp/docker-mailserver/rspamd/dkim"


@dataclass(frozen=True)
class SigningKey:
    """A key that signs for a domain."""

    domain: str
    selector: str
    key_type: str


def opendkim_tables(keys: Sequence[SigningKey], directory: str = OPENDKIM_KEYS) -> dict[str, str]:
    """Return KeyTable, SigningTable and TrustedHosts; keys that OpenDKIM cannot sign with are left out.

    An Ed25519 key in its tables makes OpenDKIM refuse every message with 451.
    """
    usable = [key for key in keys if key.key_type == "rsa"]
    _refuse_doubles(usable, "OpenDKIM")
    key_table = [
        f"{_name(key)} {key.domain}:{key.selector}:{directory}/{key.domain}/{key.selector}.private\n" for key in usable
    ]
    signing_table = [f"*@{key.domain} {_name(key)}\n" for key in usable]
    return {
        "KeyTable": "".join(key_table),
        "SigningTable": "".join(signing_table),
        # Docker's networks are not in it: whatever connects from there could have anything signed.
        "TrustedHosts": "127.0.0.1\nlocalhost\n",
    }


def rspamd_settings(keys: Sequence[SigningKey], directory: str = RSPAMD_KEYS) -> str:
    """Return dkim_signing.conf; each domain signs with all its keys, RSA and Ed25519 side by side."""
    lines = [
        "enabled = true;",
        "sign_authenticated = true;",
        "sign_local = false;",
        "try_fallback = false;",
        'use_domain = "header";',
        # Each domain is named below; its parent has keys of its own, or none.
        "use_esld = false;",
        "allow_username_mismatch = true;",
        "check_pubkey = true;",
        "domain {",
    ]
    for domain in dict.fromkeys(key.domain for key in keys):
        lines += [f"  {domain} {{", "    selectors ["]
        for key in keys:
            if key.domain == domain:
                path = f"{directory}/{rspamd_file(key)}"
                lines.append(f'      {{ path = "{path}"; selector = "{key.selector}"; }},')
        lines += ["    ]", "  }"]
    return "\n".join([*lines, "}", ""])


def rspamd_file(key: SigningKey) -> str:
    """Return the name of a key's file below Rspamd's folder of keys."""
    return f"{key.domain}/{key.selector}.key"


def private_key_text(pem: bytes, key_type: str, engine: str) -> str:
    """Return a private key as its signer reads it."""
    if engine == "rspamd" and key_type == "ed25519":
        # Rspamd takes the bare seed only, and any further line in the file breaks it.
        return base64.b64encode(ed25519_seed(pem)).decode() + "\n"
    return pem.decode("ascii", "replace").rstrip("\n") + "\n"


def _name(key: SigningKey) -> str:
    return f"{key.selector}._domainkey.{key.domain}"


def _refuse_doubles(keys: Sequence[SigningKey], engine: str) -> None:
    domains = [key.domain for key in keys]
    double = sorted({domain for domain in domains if domains.count(domain) > 1})
    if double:
        raise DkimError(f"{', '.join(double)} has two active keys, and {engine} signs with the first only: retire one.")
