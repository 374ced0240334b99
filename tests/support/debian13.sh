#!/usr/bin/env bash
# debian13.sh CHECKOUT CACHE ARGUMENTS…: `tests/run.sh ARGUMENTS…` inside a Debian 13 tree.
#
# The tree (Python 3.13, podman 5) is made once by mmdebstrap below CACHE and entered by
# pivot_root in a private mount namespace; run.sh then sets up there what it sets up anywhere.
set -euo pipefail

suite=trixie
tree=$2/debian13

say() { printf 'debian13.sh: %s\n' "$*" >&2; }

make_tree() {
    [ ! -e "$tree/complete" ] || return 0
    say "making $tree with mmdebstrap"
    rm -rf --one-file-system "$tree"
    mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,procps,util-linux \
        "$suite" "$tree"
    touch "$tree/complete"
}

# The parts of the host that the tree needs: its kernel's file systems, names, trusted roots.
lay_host() {
    mount --bind "$tree" "$tree"
    mount -t proc proc "$tree/proc"
    mount --rbind /sys "$tree/sys"
    mount --rbind /dev "$tree/dev"
    mkdir -p "$tree/checkout"
    mount --bind -o ro "$1" "$tree/checkout"
    cat /etc/resolv.conf >"$tree/etc/resolv.conf"
    [ ! -e /etc/ssl/certs/ca-certificates.crt ] ||
        cat /etc/ssl/certs/ca-certificates.crt >"$tree/etc/ssl/certs/ca-certificates.crt"
}

if [ "$1" = --inside ]; then
    lay_host "$3"
    shift 3
    cd "$tree"
    # pivot_root onto itself: the old root lies on top of the new one and is taken off.
    pivot_root . .
    umount -l .
    cd /checkout
    exec env -u XDG_CACHE_HOME HOME=/root bash tests/run.sh "$@"
fi

make_tree
checkout=$1
shift
exec unshare --mount --propagation private bash "$0" --inside "${tree%/debian13}" "$checkout" "${@:2}"
