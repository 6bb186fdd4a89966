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

image_of() { docker container inspect --format '{{.Config.Image}}' "$1" 2>/dev/null || true; }

# A database without anything of anybody: beside the server's own tables there is none. With a slash, for it may be a link.
nothing_in_database() {
    [ ! "$(find "$data/db/" -mindepth 2 ! -type d ! -name db.opt ! -path "$data/db/mysql/*" ! -path "$data/db/sys/*" \
        ! -path "$data/db/performance_schema/*" -print -quit 2>/dev/null)" ]
}

# Puts what is at the address $1 into the file $2; without a file, only sees whether it is there.
fetch() {
    python3 -c 'import shutil, sys, urllib.request as u
url, file = sys.argv[1:]
try:
    with u.urlopen(url, timeout=60) as answer, open(file or "/dev/null", "wb") as out:
        shutil.copyfileobj(answer, out) if file else answer.read(1)
except Exception as error:
    sys.exit(f"{url} cannot be fetched ({error}): check matomo_geoip_url.")' "$1" "${2:-}"
}

# What is there, a line each. The password that is expected comes from standard input.
look() {
    local password=unknown running="" former="" database="" places="" said
    if [ -e "$folder/compose.yml" ] && [ "$(docker container inspect --format '{{.State.Running}}' matomo-db 2>/dev/null)" = true ]; then
        running=yes
    fi
    if [ "$running" ]; then
        # A server that is just starting tells nothing about the password.
        said=$(docker exec -i matomo-db sh -c 'IFS= read -r MYSQL_PWD; export MYSQL_PWD; exec mariadb -umatomo -e "SELECT 1" matomo' 2>&1) \
            && password=right
        case $said in *"ERROR 1045"*) password=wrong ;; esac
    fi
    if [ "$password" != right ] && [ "$(ls -A "$data/db" 2>/dev/null)" ] && nothing_in_database; then
        echo "empty=yes"
    elif [ "$password" = wrong ]; then
        echo "trouble=Matomo's database refuses matomo_database_password, which counts for a new database only: give the former one," \
            "or change it in the database and in Matomo first, as docs/matomo.md tells."
    fi
    echo "version=$(tree_version)"
    # What ran before an upgrade that was cut off, whatever runs now.
    if [ -s "$work/unfinished" ]; then
        { read -r former || true; read -r database || true; } <"$work/unfinished"
    fi
    echo "image=${former:-$(image_of matomo)}"
    echo "database_image=${database:-$(image_of matomo-db)}"
    [ ! -e "$work/image" ] || echo "unpacked=$(cat "$work/image")"
    [ ! -e "$work/unfinished" ] || echo "unfinished=yes"
    if [ -s "$work/places" ]; then
        places=$([ -e "$html/misc/DBIP-City.mmdb" ] && cat "$work/places" || echo lost)
    fi
    echo "places=$places"
    # What is to be fetched at the end is looked for before anything changes.
    if [ "$image" ] && [ "$image" != "$places" ]; then
        said=$(fetch "$image" 2>&1) || echo "trouble=$said"
    fi
    [ ! -e "$folder/secrets/token" ] || echo "token=$(cat "$folder/secrets/token")"
}

# Copies the image's tree to where nobody looks yet.
unpack() {
    rm -rf "$html.new"
    install -d -o 33 -g 33 "$html.new"
    docker run --rm --network none --memory 128m --user 33:33 -v "$html.new:/new" --entrypoint cp "$image" -a /usr/src/matomo/. /new/ \
        || stop "$image cannot be unpacked: make room on the disk; nothing was changed."
}

# What is the user's own goes along; what came with the former version does not. As Matomo's own user, inside a container: on the
# box, root would follow the links that a hole in Matomo may have left there.
carry_over() {
    local former
    former=$(docker run --rm --network none --memory 64m --entrypoint ls "$1" /usr/src/matomo/plugins 2>/dev/null || true)
    docker run --rm --network none --memory 128m --user 33:33 --cap-drop ALL -v "$html:/old:ro" -v "$html.new:/new" \
        --entrypoint sh "$image" -euc '
            cp -an /old/config/. /new/config/
            cp -an /old/misc/. /new/misc/
            # What its tag manager has published.
            for file in /old/js/container_*; do
                [ ! -e "$file" ] || { mkdir -p /new/js; cp -a "$file" /new/js/; }
            done
            for plugin in /old/plugins/*; do
                name=$(basename "$plugin")
                if [ ! -e "/new/plugins/$name" ] && ! printf "%s\n" "$1" | grep -qxF -e "$name"; then
                    cp -a "$plugin" /new/plugins/
                fi
            done' sh "$former" \
        || stop "What is yours in $html cannot be copied: make room on the disk; nothing was changed."
}

client='MYSQL_PWD=$(cat /run/secrets/password); export MYSQL_PWD; exec'

dump() {
    local file=$work/before-$1.sql.gz
    docker exec matomo-db sh -c "$client mariadb-dump --single-transaction --quick --no-tablespaces -umatomo matomo" \
        | gzip 2>/dev/null >"$file.new" && [[ $(zcat "$file.new" | tail -n 1) == *"Dump completed"* ]] \
        || stop "The dump of Matomo's database is not complete: make room on the disk; nothing was changed."
    find "$work" -name 'before-*.sql.gz' -delete
    mv "$file.new" "$file"
}

start_database() {
    docker start matomo-db >/dev/null
    for _ in $(seq 60); do
        docker exec matomo-db healthcheck.sh --connect --innodb_initialized >/dev/null 2>&1 && break
        sleep 1
    done
}

restore() {
    start_database
    { echo "DROP DATABASE matomo; CREATE DATABASE matomo; USE matomo;"; zcat "$work"/before-*.sql.gz; } \
        | docker exec -i matomo-db sh -c "$client mariadb -umatomo"
}

undo() {
    # Whatever comes now, the next run looks again.
    rm -f "$work/image"
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
    rm -rf "$html.new" "$work/migrating"
}

back() {
    undo
    rm -f "$work/unfinished"
}

# Notes whose program is unpacked.
keep_name() { printf '%s\n' "$image" >"$work/image"; }

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
    local new old former
    install -d -m 0755 "$folder"
    install -d -m 0700 "$data" "$work"
    exec 9>"$lock"
    # Nothing half-done is left to take up room.
    trap "rm -rf '$html.new' '$work'/before-*.new" EXIT
    flock --timeout 3600 9 || stop "Matomo has been making reports for an hour: wait for it, or stop matomo-archive.service."
    if [ -e "$work/unfinished" ]; then
        echo "An upgrade that was cut off is taken back first."
        undo
    fi
    if [ "${3:-}" = renew ]; then
        docker rm -f matomo-db >/dev/null 2>&1 || true
        nothing_in_database || stop "$data/db cannot be used and is not empty: restore it from a backup, or move it away."
        find "$data/db/" -mindepth 1 -delete
        echo "The database, whose first start was cut off, starts anew."
    fi
    docker image inspect "$image" >/dev/null 2>&1 || docker pull -q "$image" >/dev/null || stop "$image cannot be fetched: check name and version."
    new=$(docker run --rm --network none --memory 64m --entrypoint cat "$image" /usr/src/matomo/core/Version.php | version_of) \
        || stop "$image is no image of Matomo: give one of its fpm images."
    old=$(tree_version)
    # Never installed, so there is nothing to upgrade.
    if [ ! -e "$html/config/config.ini.php" ] && nothing_in_database; then
        old=""
    fi
    if [ ! "$old" ]; then
        [ ! -e "$html/config/config.ini.php" ] \
            || stop "$html has a configuration and no program: put its core/Version.php back, or move the folder away."
        unpack
        # What may run there holds on to the former folder.
        docker stop matomo-web matomo >/dev/null 2>&1 || true
        rm -rf "$html"
        mv "$html.new" "$html"
        rm -f "$work/unfinished"
        keep_name
        echo "Matomo $new is unpacked."
        return
    fi
    if [ "$old" = "$new" ]; then
        if [ "${3:-}" = dump ] && docker container inspect matomo-db >/dev/null 2>&1; then
            start_database
            dump "$new"
        fi
        rm -f "$work/unfinished"
        keep_name
        return
    fi
    [ "$(printf '%s\n' "$old" "$new" | sort -V | tail -n 1)" = "$new" ] \
        || stop "Matomo's data is of version $old and $image is $new: Matomo cannot go back, so give $old or newer."
    docker container inspect matomo matomo-db >/dev/null 2>&1 \
        || stop "Matomo is switched off and its data is of version $old: run it with the image of that version once, then with $image."
    former=$(cat "$work/unfinished" 2>/dev/null || true)
    former=${former:-$(image_of matomo; image_of matomo-db)}
    start_database
    dump "$new"
    unpack
    carry_over "${former%%$'\n'*}"
    # Left by an upgrade that was good and whose end was cut off.
    rm -rf "$work/migrating" "$html.old"
    printf '%s\n' "$former" >"$work/unfinished"
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
    keep_name
    echo "Matomo is upgraded from $old to $new."
}

# Fetches the database of places from the address in $2 and makes Matomo use it; without an address, forgets it.
places() {
    local file=/var/www/html/misc/DBIP-City.mmdb new=$work/places.mmdb provider=default
    trap "rm -f '$new' '$new.gz'" EXIT
    if [ "$image" ]; then
        fetch "$image" "$new"
        if [[ $image = *.gz ]]; then
            mv "$new" "$new.gz"
            zcat "$new.gz" >"$new" 2>/dev/null || stop "$image is not packed with gzip, or does not fit on the disk: check matomo_geoip_url."
        fi
        grep -qa MaxMind.com "$new" || stop "$image is no database of places: check matomo_geoip_url."
        # By Matomo's own user: on the box, root would follow the links that a hole in Matomo may have left there.
        docker exec -i --user 33:33 matomo sh -c 'cat >"$1.new" && mv -f "$1.new" "$1" || { rm -f "$1.new"; exit 1; }' sh "$file" <"$new" 2>/dev/null \
            || stop "$image does not fit on the disk: make room, or leave matomo_geoip_url out."
        provider=geoip2php
    fi
    echo "REPLACE INTO matomo_option (option_name, option_value, autoload) VALUES ('usercountry.location_provider', '$provider', 1)" \
        | docker exec -i matomo-db sh -c "$client mariadb -umatomo matomo"
    docker exec --user 33:33 matomo php /var/www/html/console core:clear-caches >/dev/null
    [ "$image" ] || docker exec --user 33:33 matomo rm -f "$file"
    printf '%s' "$image" >"$work/places"
}

# The upgrade holds: what it could have gone back to is not needed any more, but for the dump. The mark goes first, or the next run
# would go back to a folder that is half removed.
finish() {
    rm -f "$work/unfinished"
    rm -rf "$work/migrating" "$html.old"
}

"$0" "$@"
