# What scripts/test and scripts/bench share: a PostgreSQL of their own, and how to say things.
# To be sourced, in the root of the tree.

step() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }

fail() {
    echo "$0: $*" >&2
    exit 1
}

# Installs Debian packages, if this is Debian and we are root.
install_debian() {
    [[ -f /etc/debian_version && $EUID -eq 0 ]] || fail "$1 is missing: install it"
    step "installing $*"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } \
        > target/test-apt.log 2>&1 || fail "apt-get could not install $*: see target/test-apt.log"
}

# Prints the folder of the newest PostgreSQL's programs, or nothing.
find_postgres() {
    local initdb
    initdb=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -1)
    [[ -x $initdb ]] || initdb=$(command -v initdb) || return 0
    dirname "$initdb"
}

# PostgreSQL refuses to run as root, so root runs it as the user `postgres`.
as_postgres() {
    if [[ $EUID -eq 0 ]]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi
}

stop_postgres() {
    # Of this folder, so never another's.
    [[ ! -f $folder/data/postmaster.pid ]] \
        || as_postgres "$RINGBACK_TEST_PG_BIN/pg_ctl" -D "$folder/data" -m immediate stop > /dev/null
    rm -rf "$folder"
}

# Reached by a socket in a folder of its own: no port to collide on, and no other user
# of this machine gets in.
start_postgres() {
    folder=$(mktemp -d /tmp/ringback-test.XXXXXX)
    [[ $EUID -ne 0 ]] || chown postgres "$folder"
    trap stop_postgres EXIT
    (
        cd "$folder"
        as_postgres "$RINGBACK_TEST_PG_BIN/initdb" -D data -U postgres -A trust -E UTF8 --locale=C
        cat >> data/postgresql.conf <<-END
			listen_addresses = ''
			unix_socket_directories = '$folder'
			max_connections = 200
			fsync = on
			shared_preload_libraries = 'pg_stat_statements'
		END
        as_postgres "$RINGBACK_TEST_PG_BIN/pg_ctl" -D data -l log -w start
    ) > target/test-postgres.log 2>&1 || fail "PostgreSQL did not start: see target/test-postgres.log"
    export RINGBACK_TEST_DATABASE_URL="postgres://postgres@localhost/postgres?host=$folder"
}

# Sets RINGBACK_TEST_PG_BIN, where PostgreSQL's programs are.
require_postgres() {
    RINGBACK_TEST_PG_BIN=$(find_postgres)
    [[ -n $RINGBACK_TEST_PG_BIN ]] || { install_debian postgresql && RINGBACK_TEST_PG_BIN=$(find_postgres); }
    export RINGBACK_TEST_PG_BIN
}
