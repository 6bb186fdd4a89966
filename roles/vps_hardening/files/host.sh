#!/bin/sh
# Sent to the host on standard input. `check` only looks and prints key=value lines; `apply` brings into order what
# $TODO names and is not a file of known content. One shell is a fraction of the cost of one Python start per question.
set -eu
LC_ALL=C
export LC_ALL

SWAP=/swapfile
BRIDGE=/swapfile.bridge
RSA=/etc/ssh/ssh_host_rsa_key
MODULI=/etc/ssh/moduli.strong
SECRET_FILES='/etc/crontab:600 /etc/cron.d:700 /etc/cron.hourly:700 /etc/cron.daily:700 /etc/cron.weekly:700
/etc/cron.monthly:700 /etc/ssh/sshd_config:600 /etc/sudoers.d:750 /boot/grub/grub.cfg:600'

fail() {
    echo "$1" >&2
    exit 1
}

say() {
    printf '%s=%s\n' "$1" "$2"
}

# --- looking -----------------------------------------------------------------------------------------------------

login_user() {
    echo "${SUDO_USER:-$(id -un)}"
}

in_container() {
    systemd-detect-virt --quiet --container
}

# One sentence when going on would lock the owner out or leave two firewalls fighting; nothing otherwise.
refusal() {
    user=$(login_user)
    if [ "$WANT_SSH" = yes ]; then
        if [ "$user" = root ]; then
            echo "vps_hardening_ssh closes root's login, and ansible_user is root: run once with vps_hardening_ssh: false" \
                "and an account in vps_hardening_admin_users, then set ansible_user to that account."
            return
        fi
        if ! has_key "$user"; then
            echo "vps_hardening_ssh closes password logins, and $user (ansible_user) has no Ed25519 or RSA key in" \
                "its authorized_keys: add one with ssh-copy-id first, or set vps_hardening_ssh: false."
            return
        fi
    fi
    if [ "$WANT_FIREWALL" = yes ]; then
        if grep -qsx 'ENABLED=yes' /etc/ufw/ufw.conf; then
            echo "vps_hardening_firewall cannot share the box with ufw, which is active and does not see container ports:" \
                "run 'ufw disable' there first, or set vps_hardening_firewall: false."
        elif systemctl --quiet is-active firewalld.service; then
            echo "vps_hardening_firewall cannot share the box with firewalld, which is active: run" \
                "'systemctl disable --now firewalld' there first, or set vps_hardening_firewall: false."
        fi
    fi
}

has_key() {
    home=$(getent passwd "$1" | cut -d: -f6)
    settings=$(/usr/sbin/sshd -T -C "user=$1,host=localhost,addr=127.0.0.1" 2>/dev/null || true)
    case $(echo "$settings" | awk '$1 == "authorizedkeyscommand" {print $2}') in
        '' | none) ;;
        *) return 0 ;;
    esac
    patterns=$(echo "$settings" | sed -n 's/^authorizedkeysfile //p')
    for pattern in ${patterns:-.ssh/authorized_keys}; do
        file=$(echo "$pattern" | sed "s#%h#$home#g; s#%u#$1#g; s#%%#%#g")
        case $file in
            /*) ;;
            *) file=$home/$file ;;
        esac
        if grep -qsE '^[^#]*((sk-)?ssh-ed25519(@openssh\.com)?|ssh-rsa) +AAAA' "$file"; then
            return 0
        fi
    done
    return 1
}

installed() {
    # dpkg-query fails when one name is unknown and still prints the others.
    # shellcheck disable=SC2016,SC2086
    dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' $1 2>/dev/null | sed -n 's/^installed //p' || true
}

words() {
    tr '\n' ' ' | sed 's/ $//'
}

packages_missing() {
    have=" $(installed "$WANT_PACKAGES" | words) "
    for name in $WANT_PACKAGES; do
        case $have in
            *" $name "*) ;;
            *) echo "$name" ;;
        esac
    done
}

users_missing() {
    for name in $WANT_USERS; do
        getent passwd "$name" >/dev/null || echo "$name"
    done
}

swap_active() {
    grep -q "^$1 " /proc/swaps
}

swap_size() {
    if [ -e "$SWAP" ]; then echo $(($(stat -c %s "$SWAP") / 1048576)); else echo 0; fi
}

swap_differs() {
    in_container && return 1
    [ ! -e "$BRIDGE" ] || return 0
    if [ "$WANT_SWAP_MB" -eq 0 ]; then
        [ -e "$SWAP" ]
    else
        ! swap_active "$SWAP" || [ "$(swap_size)" -ne "$WANT_SWAP_MB" ] || ! grep -q "^$SWAP " /etc/fstab
    fi
}

rsa_is_short() {
    bits=$(ssh-keygen -l -f "$RSA" 2>/dev/null | cut -d' ' -f1)
    [ "${bits:-0}" -lt 4096 ]
}

strong_moduli() {
    awk '$5 ~ /^[0-9]+$/ && $5 >= 3071' /etc/ssh/moduli
}

wrong_modes() {
    for pair in $SECRET_FILES; do
        file=${pair%:*}
        if [ -e "$file" ] && [ "$(stat -L -c %a "$file")" != "${pair#*:}" ]; then
            echo "$pair"
        fi
    done
}

# Snaps that somebody installed: with snapd, their data would go.
snaps() {
    for folder in /snap/*/; do
        name=${folder%/}
        case ${name##*/} in
            '*' | bin | bare | core* | snapd | oracle-cloud-agent) ;;
            *) echo "${name##*/}" ;;
        esac
    done
}

# An installed fail2ban that does not run bans nobody, and nothing would tell.
bans_are_off() {
    case " $WANT_PACKAGES " in *' fail2ban '*) ;; *) return 1 ;; esac
    [ -x /usr/bin/fail2ban-server ] && ! systemctl --quiet is-active fail2ban.service
}

todo() {
    if bans_are_off; then echo bans; fi
    if [ "$WANT_SWAP" = yes ] && swap_differs; then echo swap; fi
    if [ "$WANT_SSH" = yes ] && rsa_is_short; then echo rsa; fi
    if [ "$WANT_SSH" = yes ] && ! strong_moduli | cmp -s - "$MODULI"; then echo moduli; fi
    if [ "$WANT_FILE_MODES" = yes ] && [ -n "$(wrong_modes)" ]; then echo modes; fi
    if [ "$WANT_TIMESYNC" = yes ] && [ "$(readlink -f /etc/localtime)" != "$(readlink -f "/usr/share/zoneinfo/$WANT_ZONE")" ]; then
        echo zone
    fi
}

check() {
    # sshd cannot even test its settings without this folder, which is gone while its service is stopped.
    [ -d /run/sshd ] || mkdir -m 0755 /run/sshd
    # shellcheck disable=SC1091
    say os "$(. /etc/os-release && echo "$ID-$VERSION_ID")"
    say container "$(in_container && echo yes || echo no)"
    say user "$(login_user)"
    say refusal "$(refusal)"
    say packages_missing "$(packages_missing | words)"
    say packages_needless "$(installed "$NEEDLESS_PACKAGES" | words)"
    say users_missing "$(users_missing | words)"
    say time_daemon "$(installed "chrony ntpsec ntp openntpd" | words)"
    say agent "$([ -e /snap/oracle-cloud-agent ] && echo yes || echo no)"
    say snaps "$(snaps | words)"
    say guard "$(if [ -x /usr/local/sbin/servers-guard ]; then /usr/local/sbin/servers-guard status; else echo missing; fi)"
    say todo "$(todo | words)"
    say kex "$(ssh -Q kex | words)"
    say penalties "$(/usr/sbin/sshd -T 2>/dev/null | grep -q '^persourcepenalties ' && echo yes || echo no)"
    say login_defs "$(base64 --wrap=0 /etc/login.defs)"
}

# --- bringing into order -----------------------------------------------------------------------------------------

make_swap() {
    free=$(df -Pm / | awk 'NR == 2 {print $4}')
    [ "$free" -gt $((WANT_SWAP_MB + 512)) ] ||
        fail "vps_hardening_swap_size_mb: $WANT_SWAP_MB needs $((WANT_SWAP_MB + 512)) MB on /, where $free are free: lower it."
    rm -f "$1" "$1.new"
    (umask 077 && fallocate -l "${WANT_SWAP_MB}M" "$1.new") || (umask 077 && dd if=/dev/zero of="$1.new" bs=1M count="$WANT_SWAP_MB")
    mkswap "$1.new" >/dev/null
    # Under its name only when it is whole, so that an interrupted run leaves nothing that looks finished.
    mv -f "$1.new" "$1"
    swapon --priority 10 "$1"
}

drop_swap() {
    if swap_active "$1"; then
        swapoff "$1" || fail "vps_hardening_swap_size_mb: what is swapped out now does not fit elsewhere: raise it or end something."
    fi
    rm -f "$1" "$1.new"
}

# The kernel lets nobody rename a swap file in use, so another one holds what is swapped out while the first is made anew.
apply_swap() {
    if [ "$WANT_SWAP_MB" -gt 0 ] && ! { swap_active "$SWAP" && [ "$(swap_size)" -eq "$WANT_SWAP_MB" ]; }; then
        if swap_active "$SWAP"; then
            swap_active "$BRIDGE" || make_swap "$BRIDGE"
        fi
        drop_swap "$SWAP"
        make_swap "$SWAP"
    fi
    [ "$WANT_SWAP_MB" -gt 0 ] || drop_swap "$SWAP"
    drop_swap "$BRIDGE"
    sed -i "\\#^${SWAP}[[:space:]]#d" /etc/fstab
    [ "$WANT_SWAP_MB" -eq 0 ] || echo "$SWAP none swap sw,pri=10 0 0" >>/etc/fstab
    systemctl daemon-reload
}

apply_rsa() {
    rm -f "$RSA.new" "$RSA.new.pub"
    ssh-keygen -q -t rsa -b 4096 -N '' -C "root@$(uname -n)" -f "$RSA.new"
    # The private half first: until the public half follows, the key still counts as short and is made again.
    mv -f "$RSA.new" "$RSA"
    mv -f "$RSA.new.pub" "$RSA.pub"
}

apply_moduli() {
    strong_moduli >"$MODULI.new"
    chmod 644 "$MODULI.new"
    mv -f "$MODULI.new" "$MODULI"
}

apply_modes() {
    for pair in $(wrong_modes); do
        chmod "${pair#*:}" "${pair%:*}"
    done
}

apply_bans() {
    systemctl enable --now fail2ban.service
}

apply_zone() {
    [ -e "/usr/share/zoneinfo/$WANT_ZONE" ] || fail "servers_timezone: $WANT_ZONE is no time zone of this box."
    ln -sfn "/usr/share/zoneinfo/$WANT_ZONE" /etc/localtime
    echo "$WANT_ZONE" >/etc/timezone
}

case $1 in
    check) check ;;
    apply) for topic in $TODO; do "apply_$topic"; done ;;
esac
