#!/bin/sh
# Sent to the host on standard input after settings of services changed. $CHANGED names the files; an interrupted run
# no longer knows them, so an empty list means all.
set -eu

changed() {
    case ${CHANGED:-$1} in
        *"$1"*) ;;
        *) return 1 ;;
    esac
}

systemctl daemon-reload
if changed /etc/systemd/journald; then systemctl try-restart systemd-journald.service; fi
if changed /etc/systemd/timesyncd; then systemctl try-restart systemd-timesyncd.service; fi
# Debian 12 ships it with settings it cannot start with, so a mere restart of what runs would leave it dead.
if changed /etc/fail2ban; then
    if [ -e /etc/fail2ban/jail.d/servers.conf ]; then systemctl restart fail2ban.service; else systemctl try-restart fail2ban.service; fi
fi
if [ -e /etc/systemd/zram-generator.conf ]; then systemctl start systemd-zram-setup@zram0.service; fi
if [ -e /etc/systemd/system/servers-integrity.timer ]; then
    systemctl start servers-integrity.timer
    # The picture to compare with is taken now, not after the first week.
    [ -e /var/lib/aide/servers.db ] || systemctl start --no-block servers-integrity.service
fi
for unit in $MASKED; do
    if changed "/etc/systemd/system/$unit"; then systemctl stop "$unit" 2>/dev/null || true; fi
done
rm -f /var/lib/servers/pending/vps_hardening_services
