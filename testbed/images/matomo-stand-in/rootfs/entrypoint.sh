#!/bin/sh
# Starts the container as upstream's does: variables from files, and the program copied into an empty volume only.
set -e

from_file() {
    eval "value=\${$1:-} file=\${$1_FILE:-}"
    if [ -n "$value" ] && [ -n "$file" ]; then
        echo >&2 "error: both $1 and $1_FILE are set (but are exclusive)"
        exit 1
    fi
    if [ -n "$file" ]; then
        value=$(cat "$file")
        export "$1=$value"
        unset "$1_FILE"
    fi
}

for name in HOST USERNAME PASSWORD DBNAME; do
    from_file "MATOMO_DATABASE_$name"
done

if [ ! -e matomo.php ]; then
    echo "stand-in: this is not Matomo; copying $MATOMO_VERSION to $PWD" >&2
    tar cf - --one-file-system -C /usr/src/matomo . | tar xf -
    if [ "$(id -u)" = 0 ]; then chown -R www-data:www-data .; fi
fi

exec "$@"
