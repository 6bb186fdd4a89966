# What start-up, the change detector and `setup` share. Sourced.
CONFIG=/tmp/docker-mailserver

log() { printf '[  %s  ]  %s\n' "${1^^}" "$2"; }

lines() { [[ -f $1 ]] && grep -Ev '^\s*(#|$)' "$1"; }

# The original ends through its supervisor, which is content: the exit code of every such failure is 0.
die() {
    log error "$1"
    log error 'Shutting down'
    sleep 1
    kill -TERM 1
    exit 1
}

# Postfix takes a main.cf of this very second for one that is being edited.
settle() { touch -d '2 seconds ago' /etc/postfix/main.cf; }

set_postfix() {
    postconf "$@"
    settle
}

write_accounts() {
    : >/etc/postfix/vmailbox
    install -m 0640 -o dovecot -g dovecot /dev/null /etc/dovecot/userdb.new
    local login password extra quota
    while IFS='|' read -r login password extra; do
        quota=$(lines $CONFIG/dovecot-quotas.cf | grep -im1 "^$login:" | cut -d : -f 2)
        [[ -n $quota ]] && extra="${extra:+$extra }userdb_quota_rule=*:bytes=$quota"
        echo "$login ${login#*@}/${login%@*}/" >>/etc/postfix/vmailbox
        echo "$login:$password:5000:5000::/var/mail/${login#*@}/${login%@*}/home::$extra" >>/etc/dovecot/userdb.new
        mkdir -p "/var/mail/${login#*@}/${login%@*}/home"
        [[ -f $CONFIG/$login.dovecot.sieve ]] && cp "$CONFIG/$login.dovecot.sieve" "/var/mail/${login#*@}/${login%@*}/home/.dovecot.sieve"
    done < <(lines $CONFIG/postfix-accounts.cf)
    # With quotas, the original makes each alias of an account a login with that account's password, too.
    if [[ $ENABLE_QUOTAS -eq 1 ]]; then
        local alias target found
        while read -r alias target; do
            found=$(lines $CONFIG/postfix-accounts.cf | grep -m1 "^$target|") || continue
            [[ $alias == *@* ]] || continue
            grep -q "^$alias:" /etc/dovecot/userdb.new && continue
            echo "$alias:$(cut -d '|' -f 2 <<<"$found"):5000:5000::/var/mail/${target#*@}/${target%@*}/home::" >>/etc/dovecot/userdb.new
        done < <(lines $CONFIG/postfix-virtual.cf)
    fi
    mv /etc/dovecot/userdb.new /etc/dovecot/userdb
    find /var/mail -maxdepth 3 \( ! -user 5000 -o ! -group 5000 \) -print -quit | grep -q . && chown -R 5000:5000 /var/mail
}

write_domains() {
    { lines $CONFIG/postfix-accounts.cf | cut -d '|' -f 1; lines $CONFIG/postfix-virtual.cf | awk '{print $1}'; } |
        grep -o '@.*' | tr -d @ | sort -u >/etc/postfix/vhost
}

write_aliases() {
    cp -f $CONFIG/postfix-virtual.cf /etc/postfix/virtual 2>/dev/null || : >/etc/postfix/virtual
    if [[ -f $CONFIG/postfix-regexp.cf ]]; then
        cp -f $CONFIG/postfix-regexp.cf /etc/postfix/regexp
        set_postfix 'virtual_alias_maps = texthash:/etc/postfix/virtual pcre:/etc/postfix/regexp'
    fi
    { echo "root: $POSTMASTER_ADDRESS"; cat $CONFIG/postfix-aliases.cf 2>/dev/null; } >/etc/aliases
    settle
    postalias /etc/aliases
}

write_relay() {
    [[ -n $DEFAULT_RELAY_HOST ]] && set_postfix "relayhost = $DEFAULT_RELAY_HOST"
    [[ -f $CONFIG/postfix-relaymap.cf || -n $DEFAULT_RELAY_HOST ]] || return 0
    install -m 0600 /dev/null /etc/postfix/relayhost_map
    lines $CONFIG/postfix-relaymap.cf >>/etc/postfix/relayhost_map
    set_postfix 'sender_dependent_relayhost_maps = texthash:/etc/postfix/relayhost_map'
    [[ -f $CONFIG/postfix-sasl-password.cf || -n $RELAY_USER && -n $RELAY_PASSWORD ]] || return 0
    install -m 0600 /dev/null /etc/postfix/sasl_passwd
    if [[ -f $CONFIG/postfix-sasl-password.cf ]]; then
        lines $CONFIG/postfix-sasl-password.cf >>/etc/postfix/sasl_passwd
        set_postfix 'smtp_sender_dependent_authentication = yes'
    fi
    [[ -n $RELAY_USER ]] && echo "$DEFAULT_RELAY_HOST $RELAY_USER:$RELAY_PASSWORD" >>/etc/postfix/sasl_passwd
    # Encrypted, and to whom is not asked: also after each change of the passwords, whatever was set before.
    set_postfix 'smtp_sasl_password_maps = texthash:/etc/postfix/sasl_passwd' 'smtp_sasl_auth_enable = yes' \
        'smtp_sasl_security_options = noanonymous' 'smtp_tls_security_level = encrypt'
}

write_certificate() {
    install -d /etc/dms/tls
    [[ -f $SSL_KEY_PATH && -f $SSL_CERT_PATH ]] || return 1
    install -m 0600 "$SSL_KEY_PATH" /etc/dms/tls/key
    install -m 0644 "$SSL_CERT_PATH" /etc/dms/tls/cert
    set_postfix 'smtpd_tls_chain_files = /etc/dms/tls/key /etc/dms/tls/cert'
    sed -i -e 's|^ssl_key =.*|ssl_key = </etc/dms/tls/key|' -e 's|^ssl_cert =.*|ssl_cert = </etc/dms/tls/cert|' \
        /etc/dovecot/conf.d/ssl.conf
}

checksums() {
    local file
    for file in $CONFIG/{postfix-{accounts,virtual,regexp,aliases,relaymap,sasl-password},dovecot-{quotas,masters}}.cf \
        $SSL_CERT_PATH $SSL_KEY_PATH $([[ $ENABLE_RSPAMD -eq 1 ]] && find $CONFIG/rspamd -type f 2>/dev/null); do
        [[ -f $file ]] && sha512sum -- "$file"
    done
}
