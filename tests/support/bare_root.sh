#!/usr/bin/env bash
# bare_root.sh [--keep] [COMMAND...]: proves that a fresh clone works on a machine on which nothing was installed before.
#
# It makes a Debian 12 tree with python3, python3-venv, make, git and CA certificates and nothing else, clones what is
# committed here into it, and runs each COMMAND there in a fresh shell (default: "make demo" and "make test"). How long
# each takes is printed, and whether it left a process running. Needs root and mmdebstrap. The tree is removed at the end;
# --keep leaves it and says where it is.
#
# How this machine reaches its package archives (apt's sources and options, pip's configuration, CA certificates, name
# resolution) is carried along; what is installed on it is not.
set -euo pipefail

readonly suite=bookworm
readonly packages=python3,python3-venv,make,git,ca-certificates
repository=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
readonly repository
keep=
if [ "${1:-}" = --keep ]; then
    keep=yes
    shift
fi
commands=("$@")
[ ${#commands[@]} -gt 0 ] || commands=("make demo" "make test")

[ "$(id -u)" = 0 ] || { echo 'bare_root.sh: needs root, to make a root tree and change into it' >&2; exit 1; }
command -v mmdebstrap >/dev/null || { echo 'bare_root.sh: install the package mmdebstrap first' >&2; exit 1; }

readonly root=$(mktemp -d /var/tmp/smr-bare-root.XXXXXX)
chmod 755 "$root"
finish() {
    if [ -n "$keep" ]; then echo "the tree is kept in $root"; else rm -rf --one-file-system "$root"; fi
}
trap finish EXIT

make_tree() {
    local options=() sources=() file
    for file in /etc/apt/apt.conf.d/*; do
        if grep -qs '^ *Acquire' "$file"; then options+=(--aptopt="$file"); fi
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
        if grep -qsE '^(deb |Types:)' "$file"; then sources+=("$file"); fi
    done
    mmdebstrap --quiet --variant=minbase --include="$packages" "${options[@]}" "$suite" "$root" "${sources[@]}"
}

carry_ways_out() {
    local file
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    cp /etc/hosts "$root/etc/hosts"
    if [ -d /usr/local/share/ca-certificates ]; then
        cp -a /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/"
    fi
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    for file in /etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf"; do
        if [ -f "$file" ]; then
            case "$file" in
                /etc/*) cp "$file" "$root/etc/pip.conf" ;;
                *) mkdir -p "$root/root/.config/pip" && cp "$file" "$root/root/.config/pip/pip.conf" ;;
            esac
        fi
    done
}

# inside COMMAND: in the tree, with process ids of its own. When the command is done, what it left running is listed.
inside() {
    local passed=()
    mapfile -t passed < <(env | grep -E '^(PIP_|SSL_CERT_|REQUESTS_CA_BUNDLE|https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY)' || true)
    unshare --mount --pid --fork --kill-child bash -c '
        set -euo pipefail
        root=$1 command=$2; shift 2
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/tmp"
        status=0
        chroot "$root" env -i "$@" HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            bash -c "cd /root/smr && $command" </dev/null || status=$?
        # Process 1 is this shell; whatever else is there was left behind.
        for entry in "$root"/proc/[1-9]*; do
            pid=${entry##*/}
            if [ "$pid" != 1 ] && [ "$pid" != "$BASHPID" ] && [ -s "$entry/cmdline" ]; then
                printf "LEFT RUNNING: %s\n" "$(tr "\0" " " <"$entry/cmdline" | cut -c1-120)"
                status=1
            fi
        done
        exit "$status"
    ' bare-root "$root" "$1" "${passed[@]}"
}

SECONDS=0
make_tree
carry_ways_out
git clone --quiet --no-hardlinks "$repository" "$root/root/smr"
printf 'bare root: Debian %s with %s, made in %s s\n' "$(cat "$root/etc/debian_version")" "$packages" "$SECONDS"
status=0
for command in "${commands[@]}"; do
    printf '\nbare root: $ %s\n' "$command"
    SECONDS=0
    result=passed
    inside "$command" || { result=FAILED status=1; }
    printf 'bare root: %s: %s in %s s\n' "$command" "$result" "$SECONDS"
done
exit "$status"
