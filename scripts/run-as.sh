#!/bin/sh
# Runs a program as another user, with a private home and temporary folder that are removed afterwards:
#   run-as.sh USER PROGRAM [ARGUMENT...]
# run-tests --as-user hands it to cargo as the runner of test programs. Needs root.
set -eu
user=$1
shift
scratch=$(mktemp -d "${TMPDIR:-/tmp}/as.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chown "$user" "$scratch"
# Others may pass through, as through any temporary folder: some tests look at what others can reach.
chmod 0711 "$scratch"
HOME=$scratch TMPDIR=$scratch USER=$user LOGNAME=$user \
    setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups "$@"
