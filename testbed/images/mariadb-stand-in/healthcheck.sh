#!/bin/bash
# The two of upstream's tests that are used here, each as upstream's user `healthcheck` would run it.
set -euo pipefail

ask() {
    local account=/var/lib/mysql/.my-healthcheck.cnf
    mariadb --defaults-extra-file="$account" --protocol socket -B --skip-column-names -e "$1"
}

# The server that is only there to prepare the volume listens to nobody, and is not what is waited for.
connect() { [[ $(ask 'SELECT @@skip_networking') == 0 ]]; }

innodb_initialized() {
    [[ $(ask "SELECT 1 FROM information_schema.ENGINES WHERE engine = 'innodb' AND support IN ('YES', 'DEFAULT')") == 1 ]]
}

for test in "${@:?At least one argument required}"; do
    case $test in
        --connect | --innodb_initialized)
            if ! "${test#--}"; then
                echo "healthcheck ${test#--} failed" >&2
                exit 1
            fi
            ;;
        *)
            echo "Unknown healthcheck option $test" >&2
            exit 1
            ;;
    esac
done
