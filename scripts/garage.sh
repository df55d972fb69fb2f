# Garage, the S3 store that the tests write to. To be sourced after setup.sh. No distribution has it: it is built once from
# its crate and kept apart from the checkout, so that a fresh clone uses it again.
#
#   setup_garage    lays <target>/tools/garage

garage_version=2.5.0
# What cargo says "Compiling" of; it serves the report of how far it is, nothing else.
garage_crates=264
garage_home=$tests_cache/garage-$garage_version

setup_garage() {
    garage_tools=${CARGO_TARGET_DIR:-target}/tools
    mkdir -p "$garage_tools" || refuse "setup: $garage_tools cannot be made"
    if has garage; then
        # A copy, which every user who runs the tests can read.
        cp -u --remove-destination "$(command -v garage)" "$garage_tools/garage"
        return 0
    fi
    "$garage_home/bin/garage" --version 2>/dev/null | grep -q "$garage_version" || build_garage
    ln -sfn "$garage_home/bin/garage" "$garage_tools/garage"
}

# Built for a short life: hardly optimised but for what hashes and compresses, which is a third of the work; with the one
# engine for its metadata that the tests choose, and with Debian's libsodium where it can be had, since building that
# takes as long as a third of all the crates.
build_garage() {
    if can_install; then
        install_what_lacks missing_sodium
    fi
    say "setup: building Garage $garage_version for the tests (two to four minutes, once)"
    garage_log=$tests_cache/garage-build.log
    garage_build=$tests_cache/garage-build
    mkdir -p "$tests_cache" && : >"$garage_log" || refuse "setup: $garage_log cannot be made"
    {
        garage_cargo 2>&1
        echo "ended $?"
    } </dev/null | report_crates || {
        tail -n 40 "$garage_log" >&2
        refuse "setup: Garage could not be built; the end of what cargo said stands above."
    }
    rm -rf "$garage_build" "$garage_log"
    readable_by_all "$garage_home"
}

garage_cargo() (
    CARGO_NET_OFFLINE=false
    CARGO_TERM_COLOR=never
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0
    CARGO_PROFILE_RELEASE_LTO=off
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
    CARGO_PROFILE_RELEASE_DEBUG=0
    export CARGO_NET_OFFLINE CARGO_TERM_COLOR CARGO_PROFILE_RELEASE_OPT_LEVEL CARGO_PROFILE_RELEASE_LTO
    export CARGO_PROFILE_RELEASE_CODEGEN_UNITS CARGO_PROFILE_RELEASE_DEBUG
    garage_sodium=$(cc -print-file-name=libsodium.a)
    case $garage_sodium in
        /*)
            SODIUM_LIB_DIR=${garage_sodium%/*}
            export SODIUM_LIB_DIR
            ;;
    esac
    set -- install garage --locked --version "$garage_version" --root "$garage_home" --target-dir "$garage_build" \
        --no-default-features --features bundled-libs,lmdb
    for garage_crate in blake2 crc-fast md-5 sha1 sha2 zstd-sys; do
        set -- "$@" --config "profile.release.package.$garage_crate.opt-level=2"
    done
    exec cargo "$@"
)

# Prints the Debian package that spares the build of libsodium.
missing_sodium() {
    case $(cc -print-file-name=libsodium.a) in
        /*) ;;
        *) printf ' libsodium-dev' ;;
    esac
}

# Reads what cargo says and tells every quarter of a minute how far it is. Fails where cargo failed.
report_crates() {
    garage_began=$(date +%s)
    garage_told=$garage_began
    garage_count=0
    while read -r garage_word garage_rest; do
        case $garage_word in
            Compiling) garage_count=$((garage_count + 1)) ;;
            ended) return "$garage_rest" ;;
        esac
        printf '%s %s\n' "$garage_word" "$garage_rest" >>"$garage_log"
        garage_now=$(date +%s)
        if [ $((garage_now - garage_told)) -ge 15 ]; then
            garage_told=$garage_now
            garage_took=$((garage_now - garage_began))
            say "setup: Garage: crate $garage_count of $garage_crates, $((garage_took / 60)) min $((garage_took % 60)) s"
        fi
    done
    return 1
}
