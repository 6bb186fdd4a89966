#!/bin/sh
# Puts back the copy that a migration made of the database, if there is one that was not there before the upgrade.
# Arguments: the folder of the service, then the copies that were there before. The newer database is kept.
set -eu
folder=$1
shift
cd "$folder/data"
docker stop --time 30 syncserver >/dev/null 2>&1 || true
# The server owns this folder, and root follows none of the links that a hole in it may have left here.
if [ -L backups ]; then
    echo "$folder/data/backups is a link: nothing was put back." >&2
    exit 1
fi
for copy in backups/before-*.sqlite3; do
    if [ ! -f "$copy" ] || [ -L "$copy" ]; then continue; fi
    for known in "$@"; do
        [ "backups/$known" != "$copy" ] || continue 2
    done
    kept=backups/after-failed-upgrade-$(date -u +%Y%m%d-%H%M%S)
    mkdir -m 0700 "$kept"
    cp -p --remove-destination "$copy" db.sqlite3.new
    sync db.sqlite3.new
    # There is a database at every moment: where this is cut off, the server would make an empty one in the place of none.
    for part in db.sqlite3 db.sqlite3-wal db.sqlite3-shm; do
        [ ! -e "$part" ] || ln "$part" "$kept/"
    done
    rm -f db.sqlite3-wal db.sqlite3-shm
    mv -T db.sqlite3.new db.sqlite3
    sync .
    echo "The database is as it was before the upgrade; the newer one is kept in $folder/data/$kept."
    exit 0
done
