#!/usr/bin/env bash
# From a fresh Debian or Ubuntu machine to a running container, with no registry.
#
#   bash packaging/quickstart.sh
#
# Installs what is missing, gives the user subordinate ids, builds podpy.pyz, makes a small
# image from the machine's own static busybox and runs a container from it as an ordinary user:
# the one who calls (with sudo for the packages); called by root, the user behind sudo, else
# an ordinary user "podpy" that is made.  Running it again does no harm.
set -euo pipefail

checkout=$(cd "$(dirname "$0")/.." && pwd)
packages=(
    python3 python3-venv python3-pip uidmap slirp4netns fuse-overlayfs libseccomp2 catatonit
    busybox-static
)
image=localhost/quickstart:latest

say() { printf '==> %s\n' "$*"; }
die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_packages() {
    command -v apt-get >/dev/null || die "this script knows Debian and Ubuntu (apt) only; needed: ${packages[*]}"
    local missing=() package
    for package in "${packages[@]}"; do
        installed "$package" || missing+=("$package")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        say "packages: all there"
        return
    fi
    say "packages: installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" >/dev/null
}

choose_user() {
    if [ "$(id -u)" != 0 ]; then
        user=$(id -un)
        say "user: $user, who called"
    elif [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
        user=$SUDO_USER
        say "user: $user, who called sudo"
    else
        user=podpy
        if id "$user" >/dev/null 2>&1; then
            say "user: the ordinary user $user (called by root)"
        else
            say "user: making the ordinary user $user (called by root)"
            useradd --create-home --shell /bin/bash "$user"
        fi
    fi
    home=$(getent passwd "$user" | cut -d: -f6)
}

# A free range of 65536 ids in /etc/subuid and /etc/subgid, where the user has none.
give_subordinate_ids() {
    local kind file first
    for kind in uid gid; do
        file=/etc/sub$kind
        if grep -qE "^($user|$(id -u "$user")):" "$file" 2>/dev/null; then
            say "$file: $user has a range"
            continue
        fi
        as_root touch "$file"
        first=$(awk -F: 'BEGIN { top = 100000 } $2 + $3 > top { top = $2 + $3 } END { print top }' "$file")
        say "$file: giving $user the ids $first-$((first + 65535))"
        as_root usermod "--add-sub${kind}s" "$first-$((first + 65535))" "$user"
    done
}

# Run as the user: at home, with the environment of a login.
as_user() {
    if [ "$(id -un)" = "$user" ]; then
        (cd "$home" && "$@")
    else
        local runtime
        runtime=/run/user/$(id -u "$user")
        (cd "$home" && exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups \
            env -i HOME="$home" USER="$user" LOGNAME="$user" LANG=C.UTF-8 \
            PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
            ${runtime:+$([ -d "$runtime" ] && echo "XDG_RUNTIME_DIR=$runtime")} "$@")
    fi
}

build_podpy() {
    say "building $checkout/podpy.pyz"
    bash "$checkout/packaging/zipapp.sh" "$checkout/podpy.pyz"
    podpy=$home/podpy.pyz
    if [ "$checkout/podpy.pyz" != "$podpy" ]; then
        say "copying it to $podpy"
        as_user sh -c 'cat >"$1.new" && chmod 755 "$1.new" && mv "$1.new" "$1"' sh "$podpy" <"$checkout/podpy.pyz"
    fi
}

# The image: one static program and links to it.
make_image() {
    say "making the image $image from $(command -v busybox)"
    local root
    root=$(mktemp -d)
    mkdir -p "$root"/{bin,etc,proc,sys,dev,tmp,root}
    chmod 1777 "$root/tmp"
    cp "$(command -v busybox)" "$root/bin/busybox"
    "$root/bin/busybox" --list | grep -vx busybox | while read -r name; do
        ln -s busybox "$root/bin/$name"
    done
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    echo 'root:x:0:' >"$root/etc/group"
    # The same bytes each time: running this again makes no second image.
    tar -C "$root" -c --owner=0 --group=0 --sort=name --mtime=@0 . | as_user "$podpy" import - "$image" >/dev/null
    rm -rf "$root"
}

# The default network needs a tap device that the user may open; a container is one without it.
choose_network() {
    network=()
    if ! as_user sh -c 'test -r /dev/net/tun && test -w /dev/net/tun'; then
        say "network: /dev/net/tun is closed to ordinary users here (udev opens it on a usual machine)"
        say "network: the container runs with --network none; to change that: chmod 666 /dev/net/tun"
        network=(--network none)
    fi
}

run_container() {
    say "running a container as $user: podpy run --rm ${network[*]} $image …"
    as_user "$podpy" run --rm "${network[@]}" "$image" sh -c \
        'echo "hello from $(hostname): I am $(id -un) here, on Linux $(uname -r)"'
}

install_packages
choose_user
give_subordinate_ids
build_podpy
make_image
choose_network
run_container
say "done.  Next: $podpy --help"
