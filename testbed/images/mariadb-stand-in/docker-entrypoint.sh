#!/bin/bash
# Upstream's contract: passwords apply to an empty volume only, an older volume is upgraded where MARIADB_AUTO_UPGRADE says so.
set -euo pipefail

data=/var/lib/mysql
socket=/run/mysqld/mysqld.sock

say() { printf '%s [Note] [Entrypoint]: %s\n' "$(date --rfc-3339=seconds)" "$*"; }
stop() { printf '%s [ERROR] [Entrypoint]: %s\n' "$(date --rfc-3339=seconds)" "$*" >&2; exit 1; }

# Takes the variable $1 from its file, where one is named.
from_file() {
    local file="$1_FILE"
    if [[ ${!1:-} && ${!file:-} ]]; then
        stop "Both $1 and $file are set (but are exclusive)"
    fi
    if [[ ${!file:-} ]]; then
        printf -v "$1" %s "$(<"${!file}")"
    fi
    printf -v "$1" %s "${!1:-}"
    unset "$file"
}

quoted() {
    local text=${1//\\/\\\\}
    printf "'%s'" "${text//\'/\\\'}"
}

start_quietly() {
    "$@" --skip-networking --socket="$socket" --loose-innodb_buffer_pool_load_at_startup=0 &
    server=$!
    for _ in {1..300}; do
        if mariadb-admin --no-defaults --socket="$socket" ping &>/dev/null; then
            return
        fi
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    stop "Unable to start server."
}

stop_quietly() {
    kill "$server"
    wait "$server"
}

health_user() {
    local host password
    password=$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')
    for host in 127.0.0.1 ::1 localhost; do
        echo "CREATE USER IF NOT EXISTS healthcheck@'$host' IDENTIFIED BY '$password';"
        echo "SET PASSWORD FOR healthcheck@'$host' = PASSWORD('$password');"
        echo "GRANT USAGE ON *.* TO healthcheck@'$host';"
    done
    (
        umask 077
        printf '[mariadb-client]\nport=3306\nsocket=%s\nuser=healthcheck\npassword=%s\nprotocol=tcp\n' \
            "$socket" "$password" >"$data/.my-healthcheck.cnf"
    )
}

accounts() {
    local database=${MARIADB_DATABASE:-} user=${MARIADB_USER:-}
    echo "SET PASSWORD FOR root@localhost = PASSWORD($(quoted "$MARIADB_ROOT_PASSWORD"));"
    if [[ $MARIADB_ROOT_HOST && $MARIADB_ROOT_HOST != localhost ]]; then
        echo "CREATE USER root@$(quoted "$MARIADB_ROOT_HOST") IDENTIFIED BY $(quoted "$MARIADB_ROOT_PASSWORD");"
        echo "GRANT ALL ON *.* TO root@$(quoted "$MARIADB_ROOT_HOST") WITH GRANT OPTION;"
    fi
    if [[ ${MARIADB_MYSQL_LOCALHOST_USER:-} ]]; then
        echo "CREATE USER mysql@localhost IDENTIFIED VIA unix_socket;"
        echo "GRANT ${MARIADB_MYSQL_LOCALHOST_GRANTS:-USAGE} ON *.* TO mysql@localhost;"
    fi
    if [[ $database ]]; then
        echo "CREATE DATABASE IF NOT EXISTS \`$database\`;"
    fi
    if [[ $user && $MARIADB_PASSWORD ]]; then
        echo "CREATE USER $(quoted "$user")@'%' IDENTIFIED BY $(quoted "$MARIADB_PASSWORD");"
        if [[ $database ]]; then
            echo "GRANT ALL ON \`${database//_/\\_}\`.* TO $(quoted "$user")@'%';"
        fi
    fi
}

initialise() {
    if [[ ! $MARIADB_ROOT_PASSWORD ]]; then
        if [[ ${MARIADB_RANDOM_ROOT_PASSWORD:-} ]]; then
            MARIADB_ROOT_PASSWORD=$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')
            say "GENERATED ROOT PASSWORD: $MARIADB_ROOT_PASSWORD"
        elif [[ ! ${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD:-} ]]; then
            stop "Database is uninitialized and password option is not specified"
        fi
    fi
    say "Initializing database files"
    mariadb-install-db --datadir="$data" --rpm --auth-root-authentication-method=normal --skip-test-db >/dev/null
    start_quietly "$@"
    if [[ ! ${MARIADB_INITDB_SKIP_TZINFO:-} ]]; then
        mariadb-tzinfo-to-sql --skip-write-binlog /usr/share/zoneinfo 2>/dev/null | mariadb -uroot --socket="$socket" mysql
    fi
    { health_user; accounts; } | mariadb -uroot --socket="$socket" --binary-mode mysql
    local file
    for file in /docker-entrypoint-initdb.d/*.sql; do
        if [[ -e $file ]]; then
            MYSQL_PWD=$MARIADB_ROOT_PASSWORD mariadb -uroot --socket="$socket" "${MARIADB_DATABASE:-mysql}" <"$file"
        fi
    done
    stop_quietly
    say "MariaDB init process done. Ready for start up."
}

upgrade() {
    local new old=none
    new=$(mariadbd --version | grep -oE '[0-9]+\.[0-9]+' | head -n 1)
    if [[ -r $data/mysql_upgrade_info ]]; then
        old=$(grep -oE '^[0-9]+\.[0-9]+' "$data/mysql_upgrade_info" || true)
    fi
    if [[ $old == "$new" && -e $data/.my-healthcheck.cnf ]]; then
        say "MariaDB upgrade not required"
        return
    fi
    if [[ ! ${MARIADB_AUTO_UPGRADE:-} || $MARIADB_AUTO_UPGRADE == 0 ]]; then
        say "MariaDB upgrade required, but skipped due to \$MARIADB_AUTO_UPGRADE setting"
        return
    fi
    start_quietly "$@" --skip-grant-tables
    if [[ ! -e $data/.my-healthcheck.cnf ]]; then
        { echo "FLUSH PRIVILEGES;"; health_user; } | mariadb -uroot --socket="$socket" --binary-mode mysql
        stop_quietly
        start_quietly "$@" --skip-grant-tables
    fi
    mariadb-upgrade --upgrade-system-tables --socket="$socket"
    stop_quietly
}

if [[ ${1:-} == -* ]]; then
    set -- mariadbd "$@"
fi
if [[ $1 == mariadbd && " $* " != *" --help "* && " $* " != *" --version "* ]]; then
    if [[ $(id -u) == 0 ]]; then
        find "$data" \! -user mysql -exec chown mysql: {} +
        exec setpriv --reuid mysql --regid mysql --init-groups "$0" "$@"
    fi
    for name in MARIADB_ROOT_HOST MARIADB_ROOT_PASSWORD MARIADB_DATABASE MARIADB_USER MARIADB_PASSWORD; do
        from_file "$name"
    done
    MARIADB_ROOT_HOST=${MARIADB_ROOT_HOST:-%}
    if [[ -d $data/mysql ]]; then
        upgrade "$@"
    else
        initialise "$@"
    fi
fi
exec "$@"
