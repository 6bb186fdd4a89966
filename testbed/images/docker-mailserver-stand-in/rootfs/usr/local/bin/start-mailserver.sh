#!/bin/bash
# Start-up with the original's contract: what it reads, in which order it checks, and how it fails.
. /usr/local/bin/standin-config.sh

# Any variable may be given as NAME__FILE.
while IFS='=' read -r -d '' name value; do
    [[ $name == *__FILE ]] || continue
    [[ -r $value ]] || die "File $value (from $name) is not readable"
    export "${name%__FILE}=$(<"$value")"
done < <(env -0)

HOSTNAME=${OVERRIDE_HOSTNAME:-$(hostname -f)}
DOMAINNAME=$HOSTNAME
[[ $HOSTNAME == *.*.* ]] && DOMAINNAME=${HOSTNAME#*.}
: "${POSTMASTER_ADDRESS:=postmaster@$DOMAINNAME}" "${ENABLE_OPENDKIM:=1}" "${ENABLE_OPENDMARC:=1}" "${ENABLE_QUOTAS:=1}"
: "${ENABLE_IMAP:=1}" "${ENABLE_POP3:=0}" "${ENABLE_MANAGESIEVE:=0}" "${ENABLE_POSTGREY:=0}" "${ENABLE_RSPAMD:=0}"
: "${ENABLE_RSPAMD_REDIS:=$ENABLE_RSPAMD}" "${ENABLE_DNSBL:=0}" "${ENABLE_AMAVIS:=1}" "${ENABLE_POLICYD_SPF:=1}"
: "${ENABLE_CLAMAV:=0}" "${ENABLE_FAIL2BAN:=0}" "${ENABLE_SPAMASSASSIN:=0}" "${SPOOF_PROTECTION:=0}" "${SSL_TYPE:=}"
: "${POSTFIX_MESSAGE_SIZE_LIMIT:=10240000}" "${POSTFIX_MAILBOX_SIZE_LIMIT:=0}" "${DMS_CONFIG_POLL:=2}" "${PERMIT_DOCKER:=none}"
: "${DEFAULT_RELAY_HOST:=}" "${RELAY_USER:=}" "${RELAY_PASSWORD:=}" "${SSL_CERT_PATH:=}" "${SSL_KEY_PATH:=}" "${LOG_LEVEL:=info}"
for name in HOSTNAME DOMAINNAME POSTMASTER_ADDRESS ENABLE_QUOTAS ENABLE_RSPAMD DMS_CONFIG_POLL DEFAULT_RELAY_HOST RELAY_USER \
    RELAY_PASSWORD SSL_CERT_PATH SSL_KEY_PATH SSL_TYPE; do
    printf '%s=%q\n' "$name" "${!name}"
done | install -m 0600 /dev/stdin /etc/dms-settings

log info 'Stand-in for docker-mailserver 15.1.0: real Postfix, Dovecot and filters of Debian 12, not the original image'
log info 'Checking configuration'
[[ $HOSTNAME == *.* ]] || die 'Setting hostname/domainname is required'
for name in ENABLE_AMAVIS ENABLE_POLICYD_SPF ENABLE_CLAMAV ENABLE_FAIL2BAN ENABLE_SPAMASSASSIN; do
    [[ ${!name} -eq 0 ]] || die "$name=1 is not part of this stand-in"
done

wait_for_account() {
    local left
    for left in {120..10..10}; do
        lines $CONFIG/postfix-accounts.cf | grep -q '.@.*|' && return
        log warn "You need at least one mail account to start Dovecot (${left}s left for account creation before shutdown)"
        sleep 10
    done
    die 'Failed to start accounts provisioning because no accounts were provided - Dovecot could not be started!'
}

setup_dovecot() {
    local protocols='lmtp sieve'
    [[ $ENABLE_IMAP -eq 1 ]] && protocols+=' imap'
    [[ $ENABLE_POP3 -eq 1 ]] && protocols+=' pop3'
    [[ $ENABLE_MANAGESIEVE -eq 1 ]] || protocols=${protocols/ sieve/}
    echo "protocols = $protocols" >/etc/dovecot/conf.d/protocols.conf
    if [[ $ENABLE_QUOTAS -eq 1 ]]; then
        sed -e "s|@MESSAGE@|$((POSTFIX_MESSAGE_SIZE_LIMIT / 1000000))M|" -e "s|@MAILBOX@|$((POSTFIX_MAILBOX_SIZE_LIMIT / 1000000))M|" \
            /etc/dovecot/conf.d/quota.conf.template | sed 's|=0M$|=0|' >/etc/dovecot/conf.d/quota.conf
        [[ -f $CONFIG/dovecot-quotas.cf ]] || : >$CONFIG/dovecot-quotas.cf
        set_postfix "$(postconf smtpd_recipient_restrictions), check_policy_service inet:localhost:65265"
    fi
    [[ -f $CONFIG/dovecot.cf ]] && cp $CONFIG/dovecot.cf /etc/dovecot/local.conf
    mkdir -p /usr/lib/dovecot/sieve-global/{before,after}
    local place
    for place in before after; do
        [[ -f $CONFIG/$place.dovecot.sieve ]] || continue
        cp $CONFIG/$place.dovecot.sieve /usr/lib/dovecot/sieve-global/$place/50-$place.dovecot.sieve
        sievec /usr/lib/dovecot/sieve-global/$place/50-$place.dovecot.sieve
    done
    wait_for_account
    write_accounts
}

setup_filters() {
    if [[ $ENABLE_OPENDKIM -eq 1 ]]; then
        touch /etc/opendkim/{SigningTable,TrustedHosts,KeyTable}
        if [[ -e $CONFIG/opendkim/KeyTable ]]; then
            cp -a $CONFIG/opendkim/* /etc/opendkim/
            chown -R opendkim:opendkim /etc/opendkim
            chmod -R 0700 /etc/opendkim/keys
        fi
        echo "Nameservers $(awk '/^nameserver/ {print $2}' /etc/resolv.conf | paste -sd ,)" >>/etc/opendkim.conf
        set_postfix 'dkim_milter = inet:localhost:8891' 'smtpd_milters = $dkim_milter' 'non_smtpd_milters = $dkim_milter'
    fi
    if [[ $ENABLE_OPENDMARC -eq 1 ]]; then
        sed -i "s|HOSTNAME|$HOSTNAME|" /etc/opendmarc.conf
        set_postfix 'dmarc_milter = inet:localhost:8893' "$(postconf smtpd_milters) \$dmarc_milter"
    fi
    if [[ $ENABLE_RSPAMD -eq 1 ]]; then
        mkdir -p /etc/rspamd/override.d
        cp $CONFIG/rspamd/override.d/* /etc/rspamd/override.d/ 2>/dev/null
        [[ -d $CONFIG/rspamd/dkim ]] && chown -R _rspamd:_rspamd $CONFIG/rspamd/dkim
        printf 'bind_socket = "127.0.0.1:11332";\nmilter = yes;\ntimeout = 120s;\nupstream "local" { default = yes; self_scan = yes; }\n' \
            >/etc/rspamd/local.d/worker-proxy.inc
        echo 'servers = "127.0.0.1";' >/etc/rspamd/local.d/redis.conf
        printf 'reject = 11;\nadd_header = 6;\n' >/etc/rspamd/local.d/actions.conf
        set_postfix 'rspamd_milter = inet:localhost:11332' 'smtpd_milters = $rspamd_milter' 'non_smtpd_milters = $rspamd_milter' \
            'milter_mail_macros = i {mail_addr} {client_addr} {client_name} {auth_authen}'
    fi
    [[ $ENABLE_POSTGREY -eq 1 ]] &&
        set_postfix "$(postconf smtpd_recipient_restrictions), check_policy_service inet:127.0.0.1:10023"
    # The spam headers of whichever filter lead to Junk, as MOVE_SPAM_TO_JUNK does by default.
    mkdir -p /usr/lib/dovecot/sieve-global/after
    if [[ $ENABLE_RSPAMD -eq 1 && ${MOVE_SPAM_TO_JUNK:-1} -eq 1 ]]; then
        printf 'require ["fileinto"];\nif header :contains "X-Spam" "Yes" { fileinto "Junk"; }\n' \
            >/usr/lib/dovecot/sieve-global/after/spam.sieve
        sievec /usr/lib/dovecot/sieve-global/after/spam.sieve
    fi
}

setup_tls() {
    case $SSL_TYPE in
        manual) write_certificate || die "TLS Setup [SSL_TYPE=manual] | File $SSL_KEY_PATH or $SSL_CERT_PATH does not exist!" ;;
        letsencrypt)
            SSL_CERT_PATH=/etc/letsencrypt/live/$HOSTNAME/fullchain.pem SSL_KEY_PATH=/etc/letsencrypt/live/$HOSTNAME/privkey.pem
            write_certificate || die 'LETSENCRYPT_DOMAIN appears to be misconfigured, please verify.' ;;
        '')
            log warn '!! INSECURE !! SSL configured with plain text access - DO NOT USE FOR PRODUCTION DEPLOYMENT'
            set_postfix 'smtpd_tls_security_level = none'
            sed -i -e 's|smtpd_tls_security_level=encrypt|smtpd_tls_security_level=none|' \
                -e 's|smtpd_tls_wrappermode=yes|smtpd_tls_wrappermode=no|' /etc/postfix/master.cf
            sed -i 's|^ssl =.*|ssl = no|' /etc/dovecot/conf.d/ssl.conf
            echo 'disable_plaintext_auth = no' >>/etc/dovecot/conf.d/ssl.conf ;;
        *) die "Invalid value for SSL_TYPE!" ;;
    esac
}

setup_postfix() {
    echo "$DOMAINNAME" >/etc/mailname
    [[ $PERMIT_DOCKER == none ]] && set_postfix 'mynetworks ='
    set_postfix "myhostname = $HOSTNAME" "mydomain = $DOMAINNAME" "message_size_limit = $POSTFIX_MESSAGE_SIZE_LIMIT" \
        "mailbox_size_limit = $POSTFIX_MAILBOX_SIZE_LIMIT" "virtual_mailbox_limit = $POSTFIX_MAILBOX_SIZE_LIMIT"
    write_aliases
    write_domains
    if [[ $SPOOF_PROTECTION -eq 1 ]]; then
        set_postfix 'smtpd_sender_login_maps = texthash:/etc/postfix/virtual, hash:/etc/aliases, pcre:/etc/postfix/maps/sender_login_maps.pcre'
        [[ -f /etc/postfix/regexp ]] && set_postfix 'smtpd_sender_login_maps = unionmap:{ texthash:/etc/postfix/virtual, hash:/etc/aliases, pcre:/etc/postfix/maps/sender_login_maps.pcre, pcre:/etc/postfix/regexp }'
    else
        set_postfix 'mua_sender_restrictions = $dms_smtpd_sender_restrictions'
    fi
    [[ $ENABLE_DNSBL -eq 1 ]] || set_postfix 'postscreen_dnsbl_action = ignore' 'postscreen_dnsbl_sites ='
    local access
    if [[ -f $CONFIG/postfix-send-access.cf ]]; then
        access="check_sender_access texthash:$CONFIG/postfix-send-access.cf"
        set_postfix "dms_smtpd_sender_restrictions = $access, $(postconf -h dms_smtpd_sender_restrictions)"
    fi
    if [[ -f $CONFIG/postfix-receive-access.cf ]]; then
        access="check_recipient_access texthash:$CONFIG/postfix-receive-access.cf"
        set_postfix "smtpd_recipient_restrictions = $access, $(postconf -h smtpd_recipient_restrictions)"
    fi
    write_relay
    local line
    while read -r line; do
        postconf -P "$line"
    done < <(lines $CONFIG/postfix-master.cf)
    if [[ -f $CONFIG/postfix-main.cf ]]; then
        cat $CONFIG/postfix-main.cf >>/etc/postfix/main.cf
        settle
        postconf -n 2>/dev/null >/etc/postfix/main.cf.new
        mv /etc/postfix/main.cf.new /etc/postfix/main.cf
        settle
    fi
}

adopt_state() {
    [[ -d /var/mail-state ]] || return 0
    local place
    for place in lib/postfix spool/postfix lib/dovecot lib/logrotate \
        $([[ $ENABLE_POSTGREY -eq 1 ]] && echo lib/postgrey) $([[ $ENABLE_RSPAMD -eq 1 ]] && echo lib/rspamd lib/redis); do
        mkdir -p "/var/$place"
        [[ -L /var/$place ]] && continue
        if [[ -d /var/mail-state/${place/\//-} ]]; then
            rm -rf "/var/${place:?}"
        else
            mv "/var/$place" "/var/mail-state/${place/\//-}"
        fi
        ln -s "/var/mail-state/${place/\//-}" "/var/$place"
    done
}

own_state() {
    [[ -d /var/mail-state ]] || return 0
    cd /var/mail-state || return
    chmod +x .
    chown -R postfix:postfix lib-postfix
    chown -R postfix:root spool-postfix
    chown root:root spool-postfix
    chgrp -R postdrop spool-postfix/{maildrop,public} 2>/dev/null
    chmod 730 spool-postfix/maildrop
    chmod 710 spool-postfix/public
    [[ -d lib-postgrey ]] && chown -R postgrey:postgrey lib-postgrey
    [[ -d lib-rspamd ]] && chown -R _rspamd:_rspamd lib-rspamd
    [[ -d lib-redis ]] && chown -R redis:redis lib-redis
    cd /
}

if [[ -f /CONTAINER_START ]]; then
    log info 'Container was restarted. Skipping most setup routines.'
    # Sockets and numbers of processes that were killed.
    rm -f /run/dovecot/master.pid /run/opendkim/opendkim.pid /run/opendmarc/opendmarc.pid
    own_state
else
    setup_dovecot
    setup_filters
    setup_tls
    setup_postfix
    adopt_state
    own_state
    if [[ -f $CONFIG/user-patches.sh ]]; then
        log info 'Applying user patches'
        bash $CONFIG/user-patches.sh || log warn "'user-patches.sh' executed with an error"
    fi
    checksums >/tmp/docker-mailserver-config-chksum
fi
date >/CONTAINER_START

touch /var/log/mail/mail.log
chown syslog:root /var/log/mail
chmod 755 /var/log/mail
find /var/log/mail -type f -exec chmod 640 {} +
first=$(($(wc -l </var/log/mail/mail.log) + 1))
log info 'Starting daemons'
start() { supervisorctl start "$@" >/dev/null || die "Failed to start $*!"; }
daemons=(cron rsyslog dovecot)
[[ $ENABLE_RSPAMD_REDIS -eq 1 ]] && daemons+=(rspamd-redis)
[[ $ENABLE_RSPAMD -eq 1 ]] && daemons+=(rspamd)
[[ $ENABLE_OPENDKIM -eq 1 ]] && daemons+=(opendkim)
[[ $ENABLE_OPENDMARC -eq 1 ]] && daemons+=(opendmarc)
[[ $ENABLE_POSTGREY -eq 1 ]] && daemons+=(postgrey)
settle
for daemon in "${daemons[@]}" postfix changedetector; do start "$daemon"; done
[[ $LOG_LEVEL == warn || $LOG_LEVEL == error ]] || log info "$HOSTNAME is up and running"
exec tail -Fn "+$first" /var/log/mail/mail.log
