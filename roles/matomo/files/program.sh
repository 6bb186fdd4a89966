# Looks at Matomo's files, and brings them to the version of an image or back. $0 is the verb, $1 the folder, $2 the image.
set -euo pipefail
folder=$1 image=${2:-}
data=$folder/data
html=$data/html
work=$data/upgrade
lock=/run/matomo.lock

stop() {
    echo "$*" >&2
    exit 1
}

version_of() { grep -oE "VERSION *= *'[^']+'" | cut -d"'" -f 2; }

tree_version() { [ ! -e "$html/core/Version.php" ] || version_of <"$html/core/Version.php"; }

# What is there, a line each. The password that is expected comes from standard input.
look() {
    local password=unknown running=""
    if [ -e "$folder/compose.yml" ] && [ "$(docker inspect --format '{{.State.Running}}' matomo-db 2>/dev/null)" = true ]; then
        running=yes
    fi
    if [ "$running" ]; then
        local said
        # A server that is just starting tells nothing about the password.
        said=$(docker exec -i matomo-db sh -c 'read -r MYSQL_PWD; export MYSQL_PWD; exec mariadb -umatomo -e "SELECT 1" matomo' 2>&1) \
            && password=right
        case $said in *"ERROR 1045"*) password=wrong ;; esac
    fi
    echo "password=$password"
    echo "version=$(tree_version)"
    echo "image=$(docker inspect --format '{{.Config.Image}}' matomo 2>/dev/null || true)"
    echo "database_image=$(docker inspect --format '{{.Config.Image}}' matomo-db 2>/dev/null || true)"
    [ ! -e "$work/unfinished" ] || echo "unfinished=yes"
    [ ! -e "$work/places" ] || echo "places=$(cat "$work/places")"
    [ ! -e "$folder/secrets/token" ] || echo "token=$(cat "$folder/secrets/token")"
}

# Copies the image's tree to where nobody looks yet.
unpack() {
    rm -rf "$html.new"
    install -d -o 33 -g 33 "$html.new"
    docker run --rm --network none --memory 128m --user 33:33 -v "$html.new:/new" --entrypoint cp "$image" -a /usr/src/matomo/. /new/
}

# What is the user's own goes along; what came with the former version does not.
carry_over() {
    local former plugin name
    cp -an "$html/config/." "$html.new/config/"
    cp -an "$html/misc/." "$html.new/misc/"
    former=$(docker inspect --format '{{.Image}}' matomo)
    former=$(docker run --rm --network none --memory 64m --entrypoint ls "$former" /usr/src/matomo/plugins 2>/dev/null || true)
    for plugin in "$html"/plugins/*; do
        name=$(basename "$plugin")
        if [ ! -e "$html.new/plugins/$name" ] && ! grep -qxF "$name" <<<"$former"; then
            cp -a "$plugin" "$html.new/plugins/"
        fi
    done
}

client='MYSQL_PWD=$(cat /run/secrets/password); export MYSQL_PWD; exec'

dump() {
    local file=$work/before-$1.sql.gz
    docker exec matomo-db sh -c "$client mariadb-dump --single-transaction --quick --no-tablespaces -umatomo matomo" \
        | gzip >"$file.new"
    [[ $(zcat "$file.new" | tail -n 1) == *"Dump completed"* ]] || stop "The dump of Matomo's database is not complete: nothing was changed."
    find "$work" -name 'before-*.sql.gz' -delete
    mv "$file.new" "$file"
}

restore() {
    docker start matomo-db >/dev/null
    for _ in $(seq 60); do
        docker exec matomo-db healthcheck.sh --connect --innodb_initialized >/dev/null 2>&1 && break
        sleep 1
    done
    { echo "DROP DATABASE matomo; CREATE DATABASE matomo; USE matomo;"; zcat "$work"/before-*.sql.gz; } \
        | docker exec -i matomo-db sh -c "$client mariadb -umatomo"
}

back() {
    docker rm -f matomo-upgrade >/dev/null 2>&1 || true
    docker stop matomo-web matomo >/dev/null 2>&1 || true
    if [ -e "$html.old" ]; then
        rm -rf "$html.failed"
        [ ! -e "$html" ] || mv "$html" "$html.failed"
        mv "$html.old" "$html"
        rm -rf "$html.failed"
    fi
    if [ -e "$work/migrating" ]; then
        restore
    fi
    rm -rf "$html.new" "$work/migrating" "$work/unfinished"
}

# A program that does not even start is found out here within seconds, and not by a health check that has patience.
try_out() {
    docker run -d --name matomo-upgrade --network none --memory 128m --user 33:33 --cap-drop ALL --read-only --tmpfs /tmp \
        -v "$html:/var/www/html:ro" "$image" >/dev/null
    for _ in $(seq 30); do
        sleep 0.5
        if [ "$(docker inspect --format '{{.State.Running}}' matomo-upgrade)" != true ]; then
            docker logs --tail 20 matomo-upgrade >&2
            stop "$image does not stay running: see above what it said."
        fi
        if docker exec matomo-upgrade bash -c 'exec 3<>/dev/tcp/127.0.0.1/9000' 2>/dev/null; then
            break
        fi
    done
    docker rm -f matomo-upgrade >/dev/null
}

forward() {
    local new old
    install -d -m 0755 "$folder"
    install -d -m 0700 "$data" "$work"
    exec 9>"$lock"
    flock --timeout 3600 9 || stop "Matomo has been making reports for an hour: wait for it, or stop matomo-archive.service."
    if [ -e "$work/unfinished" ]; then
        echo "An upgrade that was cut off is taken back first."
        back
    fi
    docker image inspect "$image" >/dev/null 2>&1 || docker pull -q "$image" >/dev/null || stop "$image cannot be fetched: check name and version."
    new=$(docker run --rm --network none --memory 64m --entrypoint cat "$image" /usr/src/matomo/core/Version.php | version_of) \
        || stop "$image is no image of Matomo: give one of its fpm images."
    old=$(tree_version)
    if [ ! "$old" ]; then
        unpack
        [ ! -e "$html" ] || rm -rf "$html"
        mv "$html.new" "$html"
        echo "Matomo $new is unpacked."
        return
    fi
    if [ "$old" = "$new" ]; then
        if [ "${3:-}" ] && docker start matomo-db >/dev/null 2>&1; then
            dump "$new"
        fi
        return
    fi
    [ "$(printf '%s\n' "$old" "$new" | sort -V | tail -n 1)" = "$new" ] \
        || stop "Matomo's data is of version $old and $image is $new: Matomo cannot go back, so give $old or newer."
    docker inspect matomo matomo-db >/dev/null 2>&1 \
        || stop "Matomo is switched off and its data is of version $old: run it with the image of that version once, then with $image."
    docker start matomo-db >/dev/null
    dump "$new"
    unpack
    carry_over
    touch "$work/unfinished"
    # From here on, a failure is one that has to be taken back.
    trap '[ $? = 0 ] || exit 2' EXIT
    docker stop matomo-web matomo >/dev/null
    mv "$html" "$html.old"
    mv "$html.new" "$html"
    touch "$work/migrating"
    docker run --rm --name matomo-upgrade --network servers_matomo --memory 256m --user 33:33 --cap-drop ALL \
        -v "$html:/var/www/html" -v "$folder/php.ini:/usr/local/etc/php/conf.d/zz-servers.ini:ro" --workdir /var/www/html \
        --entrypoint sh "$image" -c 'php console core:update --yes && php console custom-piwik-js:update' >&2
    try_out
    echo "Matomo is upgraded from $old to $new."
}

# Fetches the database of places from the address in $2 and makes Matomo use it; without an address, forgets it.
places() {
    local file=$html/misc/DBIP-City.mmdb provider=default
    if [ "$image" ]; then
        python3 -c 'import shutil, sys, urllib.request as u
with u.urlopen(sys.argv[1], timeout=60) as answer, open(sys.argv[2], "wb") as file: shutil.copyfileobj(answer, file)' \
            "$image" "$file.new" || stop "$image cannot be fetched: check matomo_geoip_url."
        case $image in *.gz)
            zcat "$file.new" >"$file.plain" || stop "$image is not packed with gzip: check matomo_geoip_url."
            mv "$file.plain" "$file.new"
            ;;
        esac
        grep -qa MaxMind.com "$file.new" || stop "$image is no database of places: check matomo_geoip_url."
        chown 33:33 "$file.new"
        mv "$file.new" "$file"
        provider=geoip2php
    fi
    echo "REPLACE INTO matomo_option (option_name, option_value, autoload) VALUES ('usercountry.location_provider', '$provider', 1)" \
        | docker exec -i matomo-db sh -c "$client mariadb -umatomo matomo"
    docker exec --user 33:33 matomo php /var/www/html/console core:clear-caches >/dev/null
    [ "$image" ] || rm -f "$file"
    printf '%s' "$image" >"$work/places"
}

# The upgrade holds: what it could have gone back to is not needed any more, but for the dump.
finish() { rm -rf "$html.old" "$work/migrating" "$work/unfinished"; }

"$0" "$@"
