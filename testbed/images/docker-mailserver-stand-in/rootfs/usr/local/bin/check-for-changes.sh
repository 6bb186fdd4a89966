#!/bin/bash
# Takes over what changed among the files that need no new container.
. /etc/dms-settings
. /usr/local/bin/standin-config.sh
known=/tmp/docker-mailserver-config-chksum
while sleep "${DMS_CONFIG_POLL:-2}"; do
    checksums >$known.new
    cmp -s $known $known.new && continue
    log info 'Change detected'
    changed=$(grep -Fxvf $known $known.new)
    [[ $changed == */postfix-accounts.cf* || $changed == */postfix-virtual.cf* ]] && write_domains
    [[ $changed == *.pem* ]] && write_certificate
    [[ $changed =~ (accounts|virtual|aliases|quotas|masters)\.cf ]] && write_accounts
    [[ $changed =~ (accounts|virtual|relaymap|sasl-password)\.cf ]] && write_relay
    [[ $changed =~ (virtual|regexp|aliases)\.cf ]] && write_aliases
    [[ $changed == *$CONFIG/rspamd* ]] && { cp $CONFIG/rspamd/override.d/* /etc/rspamd/override.d/; supervisorctl restart rspamd; }
    settle
    postfix reload
    dovecot reload
    mv $known.new $known
done
