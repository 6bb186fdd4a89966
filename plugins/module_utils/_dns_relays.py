# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the SPF record has to include for mail relays that many use. Private: other collections must not import it."""

from __future__ import annotations

# By the end of the relay's name, as each one's own guide says.
_RELAYS = {
    "sendgrid.net": "sendgrid.net",
    "mailgun.org": "mailgun.org",
    "amazonaws.com": "amazonses.com",
    "brevo.com": "spf.brevo.com",
    "sendinblue.com": "spf.brevo.com",
    "mailjet.com": "spf.mailjet.com",
    "postmarkapp.com": "spf.mtasv.net",
    "gmail.com": "_spf.google.com",
    "office365.com": "spf.protection.outlook.com",
}
# Oracle's relay sends from other addresses in each part of the world; its name says from which region.
_ORACLE = "oci.oraclecloud.com"
_ORACLE_PARTS = {"us": "rp", "ca": "rp", "sa": "rp", "mx": "rp", "eu": "eu.rp", "ap": "ap.rp"}


def spf_includes(relay: str) -> list[str]:
    """Return the domains to include for a relay, and none for one that is not known."""
    labels = relay.split(".")
    if relay.endswith(f".{_ORACLE}") and len(labels) >= 5:
        part = _ORACLE_PARTS.get(labels[-4].split("-")[0])
        # For regions that Oracle's guide puts nowhere, its record for all of them.
        parts = [part] if part else sorted(set(_ORACLE_PARTS.values()))
        return [f"{part}.oracleemaildelivery.com" for part in parts]
    return [include for end, include in _RELAYS.items() if relay == end or relay.endswith(f".{end}")]
