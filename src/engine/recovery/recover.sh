#!/bin/sh
# recover.sh: gets a relay-backup vault's snapshots back without the program relay-backup.
# It lies in the vault; run it in a plain copy of the vault. Needs only: sh, awk, age, head, minisign, sha256sum, tr, wc,
# and gzip and zstd for what was compressed with them. Writes nothing but below --to DIR.
set -u
umask 077
LC_ALL=C
export LC_ALL

usage() {
    cat <<'END'
usage: sh recover.sh --signing-key KEY [--node NODE]
       sh recover.sh --signing-key KEY --identity FILE [--node NODE] [--snapshot ID] --to DIR

The first form lists the snapshots and says of each whether its signature is good.
The second form gives every file of one snapshot back, below the new folder DIR.

  --signing-key KEY   the public signing key from the printed recovery kit (RW...), or a file that holds it.
                      It must come from the kit: a key that lies in this vault proves nothing, because whoever could
                      change the vault could have put it there.
  --identity FILE     your age identity (what keygen or age-keygen wrote), or an SSH key
  --node NODE         whose snapshots; may be left out where the vault holds one node only
  --snapshot ID       which snapshot; the newest complete one if left out
  --to DIR            a new folder

NEVER start lightningd or lnd on a file from DIR/quarantine: an old channel database can lose all money in channels.
RECOVERY.md says what to do with what you got.

Exit codes: 0 done, 1 failed, 2 wrong usage or a tool is missing, 12 the identity does not fit, 20 damage or forgery.
END
}

# Whoever can write to the vault names folders in it: no line may be ended, and no terminal steered, by a name.
plain() { printf '%s' "$*" | tr '\000-\037\177-\377' '?'; }
line() { printf '%s' "$*" | tr '\000-\037\177' '?' && printf '\n'; }
say() { line "$*"; }
complain() { line "$*" >&2; }
stop() {
    stop_code=$1
    shift
    complain "recover.sh: $*"
    exit "$stop_code"
}

vault=$(cd "$(dirname "$0")" && pwd) || exit 1
signing_key='' identity='' node='' snapshot='' to=''
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h)
            usage
            exit 0
            ;;
        --signing-key | --identity | --node | --snapshot | --to)
            [ $# -ge 2 ] || stop 2 "$1 needs a value; see --help"
            case $1 in
                --signing-key) signing_key=$2 ;;
                --identity) identity=$2 ;;
                --node) node=$2 ;;
                --snapshot) snapshot=$2 ;;
                --to) to=$2 ;;
            esac
            shift 2
            ;;
        *) stop 2 "$1 is not known; see --help" ;;
    esac
done

[ -n "$signing_key" ] || stop 2 "--signing-key is needed: it stands on the printed recovery kit. See --help"
for tool in awk head minisign sha256sum tr wc; do
    command -v "$tool" >/dev/null 2>&1 || stop 2 "the program $tool is missing: install it and run this again"
done
if [ -f "$signing_key" ]; then
    signing_key=$(awk '!/^untrusted comment:/ && NF { key = $1 } END { print key }' "$signing_key")
fi

# Names come from the command line and from manifests; only these characters may stand in a path.
check_name() {
    case $1 in
        '' | *[!A-Za-z0-9._/-]* | /* | .* | -* | */.* | */-* | *//* | */) stop 20 "the name '$1' is not one that can be used" ;;
    esac
}

[ -d "$vault/nodes" ] || stop 2 "there is no vault here: $vault has no folder 'nodes'"
if [ -z "$node" ]; then
    count=0
    for folder in "$vault"/nodes/*/; do
        [ -d "$folder" ] || continue
        node=$(basename "$folder")
        count=$((count + 1))
    done
    [ "$count" = 1 ] || stop 2 "the vault holds $count nodes: say which with --node ($(plain "$(ls "$vault/nodes" | tr '\n' ' ')"))"
fi
check_name "$node"
case $node in */*) stop 2 "'$node' is not a node's name" ;; esac
snapshots=$vault/nodes/$node/snapshots
[ -d "$snapshots" ] || stop 2 "the vault holds no snapshot of node $node"

# Succeeds when the manifest in folder $1 was signed by the key from the kit, for this node and this place.
believe() {
    believe_reason='it has no signature'
    [ -f "$1/manifest.json.minisig" ] || return 1
    believe_reason='its signature is not by the key you gave, or it was changed'
    minisign -V -q -P "$signing_key" -m "$1/manifest.json" -x "$1/manifest.json.minisig" >/dev/null 2>&1 || return 1
    believe_reason='it has a format that this script does not know; use the program relay-backup'
    [ "$(head -n 1 "$1/manifest.json")" = '{"format": 1,' ] || return 1
    believe_reason='it belongs to another place'
    [ "$(field "$1" node)" = "$node" ] && [ "$(field "$1" snapshot)" = "$(basename "$1")" ]
}

# Prints the value of the top-level key $2 of the manifest in folder $1.
field() {
    awk -v start="\"$2\": " 'index($0, start) == 1 {
        value = substr($0, length(start) + 1)
        sub(/,$/, "", value)
        gsub(/"/, "", value)
        print value
        exit
    }' "$1/manifest.json"
}

# Prints the digest or length ($3) of the file that the top-level key $2 describes.
file_field() {
    awk -v start="\"$2\": {" -v wanted="$3" 'index($0, start) == 1 {
        if (match($0, "\"" wanted "\": \"?[0-9a-f]+")) {
            value = substr($0, RSTART, RLENGTH)
            sub(/^.*: "?/, "", value)
            print value
        }
        exit
    }' "$1/manifest.json"
}

# The snapshots' names in their order: by the number at the end, whatever the host's clock said.
ids=$(
    for folder in "$snapshots"/*/; do
        id=$(basename "$folder")
        case $id in
            *[!0-9TZ-]* | *[!0-9]) ;;
            *-*) printf '%s %s\n' "${id##*-}" "$id" ;;
        esac
    done | sort -k1,1n -k2,2 | cut -d ' ' -f 2
)
newest=''
newest_doubt=''
for id in $ids; do
    folder=$snapshots/$id
    [ -f "$folder/manifest.json" ] || continue
    if believe "$folder"; then
        complete=$(field "$folder" complete)
        if [ "$complete" = true ]; then
            word='complete'
            newest=$id
            newest_doubt=''
        else
            word='NOT COMPLETE'
        fi
        [ -n "$to" ] || say "$id  $word  taken $(field "$folder" created) ($(field "$folder" trigger))"
    else
        newest_doubt=$id
        [ -n "$to" ] || say "$(plain "$id")  CANNOT BE BELIEVED: $believe_reason"
    fi
done

# A name that is no snapshot's has no place in the order: it may be newer than all.
for folder in "$snapshots"/*/; do
    id=$(basename "$folder")
    case $id in
        *[!0-9TZ-]* | *[!0-9])
            [ -f "$folder/manifest.json" ] || continue
            newest_doubt=$id
            [ -n "$to" ] || say "$(plain "$id")  CANNOT BE BELIEVED: its name is none of a snapshot's"
            ;;
    esac
done

if [ -z "$to" ]; then
    [ -z "$newest_doubt" ] || exit 20
    [ -n "$newest" ] || stop 1 "there is no complete snapshot of node $node"
    exit 0
fi

[ -n "$identity" ] || stop 2 "--identity FILE is needed to get files back; see --help"
[ -r "$identity" ] || stop 2 "the identity file $identity cannot be read"
command -v age >/dev/null 2>&1 || stop 2 "the program age is missing: install it and run this again"
[ ! -e "$to" ] || stop 2 "$to exists already: name a new folder"
if [ -z "$snapshot" ]; then
    [ -z "$newest_doubt" ] || stop 20 "$(plain "$newest_doubt") is newer than anything that can be believed. Run the first form to see \
all snapshots, and choose an older one with --snapshot ID if you must"
    [ -n "$newest" ] || stop 1 "there is no complete snapshot of node $node"
    snapshot=$newest
fi
check_name "$snapshot"
place=$snapshots/$snapshot
[ -f "$place/manifest.json" ] || stop 1 "there is no snapshot $snapshot"
believe "$place" || stop 20 "$snapshot cannot be believed: $believe_reason"

digest_of() { sha256sum <"$1" | awk '{ print $1 }'; }
length_of() { wc -c <"$1" | awk '{ print $1 }'; }

# Opens the epoch's key. It stays in this shell's memory: printf is part of the shell, and no file is written.
epoch=$(field "$place" epoch)
epoch_key=''
for sealed in "$place/epoch.age" "$vault/nodes/$node/keys/$epoch.age"; do
    [ -f "$sealed" ] || continue
    epoch_key=$(age -d -i "$identity" "$sealed") && [ -n "$epoch_key" ] && break
    epoch_key=''
done
[ -n "$epoch_key" ] || stop 12 "the identity does not open the key of epoch $epoch; age's own words stand above"

decrypt() { printf '%s\n' "$epoch_key" | age -d -i - "$1"; }

mkdir -p "$to" || stop 1 "cannot make the folder $to"
problems=0
problem() {
    complain "DAMAGE: $*"
    problems=$((problems + 1))
}

if [ "$(digest_of "$place/notes.age" 2>/dev/null)" = "$(file_field "$place" notes sha256)" ]; then
    decrypt "$place/notes.age" >"$to/notes.json" || problem "the notes do not decrypt"
else
    problem "notes.age is missing or not what the manifest names"
fi

# Prints the objects of artifact $1, one "object length" a line, in order.
objects_of() {
    awk -v start="{\"name\": \"$1\", " '
        index($0, start) == 1 && /"segments": \[$/ { inside = 1; next }
        inside && /^\]\}/ { exit }
        inside { split($0, part, "\""); length_text = $0; sub(/^.*"length": /, "", length_text)
                 sub(/[^0-9].*$/, "", length_text); print part[8], length_text }
    ' "$place/manifest.json"
}

# Writes the decrypted segments of artifact $1 to standard output; complains and fails at the first that is not whole.
segments_of() {
    objects_of "$1" | {
        while read -r object length; do
            file=$vault/nodes/$node/segments/$(printf '%.2s' "$object")/$object.age
            if [ ! -f "$file" ]; then
                complain "DAMAGE: $1: the object $object is missing"
                exit 1
            fi
            if [ "$(length_of "$file")" != "$length" ] || [ "$(digest_of "$file")" != "$object" ]; then
                complain "DAMAGE: $1: the object $object is not what its name says"
                exit 1
            fi
            decrypt "$file" || {
                complain "DAMAGE: $1: the object $object does not decrypt"
                exit 1
            }
        done
    }
}

unpack() {
    case $1 in
        none) cat ;;
        gzip) gzip -dc ;;
        zstd) zstd -dcq ;;
        *) return 1 ;;
    esac
}

quarantine_note() {
    cat <<END
$1 is an old copy of a node's channel database.

NEVER start lightningd or lnd on it. Every payment since it was copied made it out of date, and a node that starts on
out-of-date channels can lose all the money in them: the other side may take everything.

To get the funds of the channels back, start a node with an EMPTY database, the original hsm_secret and the newest
emergency.recover, and run 'lightning-cli emergencyrecover'; then wait for the peers to close.

What this file is good for: reading it with sqlite3, to see peers, channels and invoices.
END
}

list=$(awk '/^\{"name": / && /"segments": \[$/ {
    split($0, part, "\"")
    toxic = index($0, "\"toxic\": true") ? "toxic" : "harmless"
    length_text = $0
    sub(/^.*"length": /, "", length_text)
    sub(/[^0-9].*$/, "", length_text)
    print part[4], part[12], toxic, length_text
}' "$place/manifest.json")

# Read by line, without a pipe, so that problems are counted in this shell.
while read -r name codec toxic length; do
    [ -n "$name" ] || continue
    check_name "$name"
    case $codec in
        none) ;;
        gzip | zstd) command -v "$codec" >/dev/null 2>&1 || stop 2 "the program $codec is missing: install it and run this again" ;;
        *) stop 20 "$name: the codec $codec is not known" ;;
    esac
    if [ "$toxic" = toxic ]; then
        target=$to/quarantine/$(printf '%s' "$name" | tr / _).TOXIC
    else
        target=$to/$name
    fi
    mkdir -p "$(dirname "$target")" || stop 1 "cannot make a folder below $to"
    rm -f "$to/.failed"
    # No more comes out than the manifest names: a small object can hold a large nothing.
    { segments_of "$name" || : >"$to/.failed"; } | { unpack "$codec" || : >"$to/.failed"; } |
        head -c "$((length + 1))" >"$target.partial" || : >"$to/.failed"
    if [ "$(length_of "$target.partial")" -gt "$length" ]; then
        problem "$name opens to more than the $length bytes that the manifest names; it was stopped there"
        rm -f "$to/.failed" "$target.partial"
        continue
    fi
    if [ -e "$to/.failed" ] || [ "$(length_of "$target.partial")" != "$length" ]; then
        problem "$name is not whole; what came out is in $target.partial"
        rm -f "$to/.failed"
        continue
    fi
    mv "$target.partial" "$target" || stop 1 "cannot write $target"
    case $name in */hsm_secret | */hsm_secret.*) chmod 0400 "$target" ;; esac
    if [ "$toxic" = toxic ]; then
        chmod 0400 "$target"
        quarantine_note "$(basename "$target")" >"$target.README.txt"
        say "$name: $length bytes, QUARANTINED: never start a node on it: $target"
    else
        say "$name: $length bytes: $target"
    fi
done <<END
$list
END
epoch_key=''

if [ "$problems" != 0 ]; then
    stop 20 "$problems thing(s) are damaged in this copy of the vault. The rest is whole. Try another copy or vault, or an \
older snapshot"
fi
say "Everything of $snapshot is back, below $to. RECOVERY.md says what to do now."
