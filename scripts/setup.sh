# Set-up shared by run-tests and run-demo: finds what is lacking on this machine and installs it. To be sourced by a
# POSIX shell whose working directory is the checkout. It installs Debian packages and Rust components, nothing else on
# the system: it changes no service and never makes a PostgreSQL cluster there. What only the tests need and no Debian
# package brings lies in a cache apart from the checkout: see garage.sh and postgresql.sh.
#
#   setup_system tests|demo    programs that come from Debian packages
#   setup_rust tests|demo      a Rust toolchain that is new enough, with its components
#   setup_crates               the crates of Cargo.lock, so that everything after it works without a network

# A home folder is where cargo keeps its crates; some build machines set none.
if [ -z "${HOME:-}" ]; then
    HOME=$(getent passwd "$(id -u)" | cut -d : -f 6)
    export HOME
fi

# What the tests need and no Debian package brings, apart from the checkout: a fresh clone uses it again. Root's is where
# other users can read it, since a PostgreSQL server never runs as root.
if [ "$(id -u)" = 0 ]; then
    tests_cache=/var/cache/relay-backup-tests
else
    tests_cache=${XDG_CACHE_HOME:-$HOME/.cache}/relay-backup-tests
fi

say() {
    printf '%s\n' "$@"
}

# Ends the script because this machine cannot do what was asked: exit code 2, as for a wrong command line.
refuse() {
    printf '%s\n' "$@" >&2
    exit 2
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# Succeeds when one folder holds all the PostgreSQL programs that a scratch cluster, a dump and a restore need.
has_postgres() {
    setup_ifs=$IFS
    IFS=:
    for setup_folder in $PATH /usr/lib/postgresql/*/bin; do
        IFS=$setup_ifs
        if [ -x "$setup_folder/initdb" ] && [ -x "$setup_folder/pg_ctl" ] && [ -x "$setup_folder/postgres" ] &&
            [ -x "$setup_folder/pg_dump" ] && [ -x "$setup_folder/pg_dumpall" ] && [ -x "$setup_folder/pg_restore" ]; then
            return 0
        fi
    done
    IFS=$setup_ifs
    return 1
}

# Succeeds when C sources compile and link: SQLite and zstd are built from theirs.
has_c() {
    has cc || return 1
    setup_scratch=$(mktemp -d) || return 1
    printf '#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n' >"$setup_scratch/try.c"
    cc -o "$setup_scratch/try" "$setup_scratch/try.c" >/dev/null 2>&1
    setup_result=$?
    rm -rf "$setup_scratch"
    return "$setup_result"
}

# Prints the Debian packages that are lacking for $1, by what can be run and not by what dpkg believes, so that a
# program installed in another way counts.
missing_packages() {
    has_c || printf ' gcc libc6-dev'
    has_postgres || printf ' postgresql'
    [ -e /etc/ssl/certs/ca-certificates.crt ] || printf ' ca-certificates'
    [ "$1" = tests ] || return 0
    { has age && has age-keygen; } || printf ' age'
    has minisign || printf ' minisign'
    has zstd || printf ' zstd'
    has gzip || printf ' gzip'
    has sqlite3 || printf ' sqlite3'
    has tar || printf ' tar'
    { has getfattr && has setfattr; } || printf ' attr'
    has setpriv || printf ' util-linux'
    # The printed kit is looked at in a real browser, on real paper sizes.
    has chromium || printf ' chromium fonts-liberation'
    { has pdftotext && has pdfinfo; } || printf ' poppler-utils'
}

# Runs a command with the rights that installing needs.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

can_be_root() {
    [ "$(id -u)" = 0 ] || { has sudo && sudo -n true 2>/dev/null; }
}

can_install() {
    has apt-get && can_be_root
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none \
        apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@" </dev/null 9>&-
}

# Debian's PostgreSQL packages make a cluster named main and start it. We want the programs only, so a note that says
# so lies in their configuration while they are installed, and is taken away again.
no_cluster=/etc/postgresql-common/createcluster.d/zz-relay-backup-setup.conf

allow_cluster() {
    if [ -e "$no_cluster" ]; then
        as_root rm -f "$no_cluster"
    fi
}

forbid_cluster() {
    as_root mkdir -p "${no_cluster%/*}"
    echo 'create_main_cluster = off' | as_root tee "$no_cluster" >/dev/null
}

install_packages() {
    trap allow_cluster EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    case " $* " in *" postgresql "*) forbid_cluster ;; esac
    # A list that cannot be fetched may belong to a repository that has nothing to do with us; the install decides.
    apt_get update || say "setup: apt-get update failed; trying to install all the same"
    apt_get install -y --no-install-recommends "$@"
    setup_result=$?
    allow_cluster
    trap - EXIT INT TERM
    return "$setup_result"
}

setup_system() {
    install_what_lacks missing_packages "$1"
    say "setup: every program is here"
}

# Installs the packages that a command prints, and has it look again.
install_what_lacks() {
    setup_missing=$("$@")
    if [ -z "$setup_missing" ]; then
        return 0
    fi
    if ! has apt-get; then
        refuse "setup: this machine lacks programs that come from the Debian packages$setup_missing," \
            "and it has no apt-get. Install what your system calls these, then run this again."
    fi
    if ! can_be_root; then
        refuse "setup: this machine lacks the Debian packages$setup_missing," \
            "and this user ($(id -un)) may not install them. An administrator should run:" \
            "    apt-get update && apt-get install -y --no-install-recommends$setup_missing" \
            "Then run this again."
    fi
    say "setup: installing$setup_missing"
    # The list is split into words on purpose.
    # shellcheck disable=SC2086
    install_packages $setup_missing || refuse "setup: apt-get could not install$setup_missing; its reason stands above."
    hash -r
    setup_missing=$("$@")
    [ -z "$setup_missing" ] || refuse "setup: these are installed and yet do not work:$setup_missing"
}

rust_advice="Install Rust with rustup (https://rustup.rs), or set PATH so that cargo is found, then run this again."

setup_rust() {
    if ! has cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
        export PATH
    fi
    { has cargo && has rustc; } || refuse "setup: no Rust toolchain was found." "$rust_advice"
    setup_wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    setup_found=$(rustc --version | cut -d ' ' -f 2)
    [ -n "$setup_found" ] || refuse "setup: rustc is here but does not run." "$rust_advice"
    if [ "$(printf '%s\n%s\n' "$setup_wanted" "$setup_found" | sort -V | head -n 1)" != "$setup_wanted" ]; then
        refuse "setup: Rust $setup_found is too old, $setup_wanted or newer is needed." "$rust_advice"
    fi
    [ "$1" = tests ] || return 0
    for setup_component in rustfmt clippy; do
        case $setup_component in rustfmt) setup_command=fmt ;; *) setup_command=$setup_component ;; esac
        cargo "$setup_command" --version >/dev/null 2>&1 && continue
        has rustup || refuse "setup: the Rust toolchain lacks $setup_component, and there is no rustup to add it." \
            "$rust_advice"
        rustup component add "$setup_component" || refuse "setup: rustup could not add $setup_component."
    done
}

# Runs functions that fill the cache, while no other run on this machine does.
with_cache() {
    mkdir -p "$tests_cache" || refuse "setup: $tests_cache cannot be made"
    [ "$(id -u)" != 0 ] || chmod a+rx "$tests_cache"
    exec 9>"$tests_cache/lock"
    if ! flock -n 9; then
        say "setup: waiting for another run that sets this machine up"
        flock 9
    fi
    for setup_function in "$@"; do
        "$setup_function"
    done
    exec 9>&-
}

# Root's part of the cache is for others too: the tests start servers as a user without rights.
readable_by_all() {
    [ "$(id -u)" != 0 ] || chmod -R a+rX "$1"
}

# With every crate at hand the network is switched off for cargo: what follows cannot hang on it.
setup_crates() {
    setup_host=$(rustc -vV | sed -n 's/^host: //p')
    if ! cargo fetch --quiet --locked --offline --target "$setup_host" >/dev/null 2>&1; then
        say "setup: fetching the crates of Cargo.lock"
        cargo fetch --locked --target "$setup_host" </dev/null ||
            refuse "setup: the crates of Cargo.lock could not be fetched; the reason stands above."
    fi
    CARGO_NET_OFFLINE=true
    export CARGO_NET_OFFLINE
}
