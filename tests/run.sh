#!/usr/bin/env bash
# Set up and run the whole test suite.  Says what it does; running it again does no harm.
#
#   bash tests/run.sh [--long] [--debian13] [--bench] [PYTEST ARGUMENTS]
#
#   --long       also the tests that take minutes
#   --debian13   run inside a Debian 13 tree (Python 3.13, podman 5) made by mmdebstrap
#   --bench      run tests/bench/run.py in place of the tests
#
# As root, or as a user with sudo: missing packages are installed, and everything runs as the
# unprivileged user "podpy-test" on an honest rootless host (tests/support/bed.sh).
# As another user: runs what this host allows, and says what it skipped and why.
# With CI=true a skip for something that this script should have provided is a failure.
set -euo pipefail

checkout=$(cd "$(dirname "$0")/.." && pwd)
support=$checkout/tests/support
python=/usr/bin/python3
test_user=podpy-test
debian13=false
what=(-m pytest -n 2)

packages=(
    python3 python3-venv python3-pip                # what everything runs on
    uidmap slirp4netns passt fuse-overlayfs libseccomp2 libzstd1 catatonit  # what podpy calls
    busybox-static                                  # what test images are made of
    iproute2 util-linux openssl zstd xz-utils strace # what tests look with
    nftables iperf3 iputils-ping bind9-dnsutils     # networks, and what tests try them with
    dbus-daemon python3-dbus python3-gi             # a bus with a manager like systemd's on it
    podman crun conmon netavark aardvark-dns buildah  # peers
    skopeo umoci docker-registry git                # git serves build contexts, too
    cpp                                             # Containerfile.in
    mmdebstrap                                      # the big image, the Debian 13 tree
)

say() { printf 'run.sh: %s\n' "$*" >&2; }

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_packages() {
    local missing=() available=() package
    for package in "${packages[@]}"; do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "missing packages: ${missing[*]}"
    say "apt-get update"
    apt-get update -qq || say "apt-get update failed: going on with the lists that are there"
    for package in "${missing[@]}"; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            available+=("$package")
        else
            say "not in this release, tests that need it will be skipped: $package"
        fi
    done
    [ ${#available[@]} -gt 0 ] || return 0
    say "apt-get install ${available[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o Dpkg::Use-Pty=0 "${available[@]}" >/dev/null
}

# The first cache directory that the user who runs the tests can read.
cache_directory() {
    local reader=$1 candidate
    for candidate in "${XDG_CACHE_HOME:-}" "$([ "$reader" = "$USER_NOW" ] && echo "$HOME/.cache")" /var/cache; do
        [ -n "$candidate" ] && mkdir -p "$candidate/podpy-tests" 2>/dev/null || continue
        [ "$reader" = "$USER_NOW" ] ||
            setpriv --reuid="$reader" --clear-groups test -x "$candidate/podpy-tests" || continue
        echo "$candidate/podpy-tests"
        return
    done
    say "no directory to cache in: set XDG_CACHE_HOME"
    return 1
}

# A virtual environment with the suite's and podpy's dependencies, kept between runs.
make_venv() {
    local key lock
    key=$({ echo layout 2; "$python" -V; cat "$support/requirements.txt"; sed -n "/^dependencies/,/^]/p" "$checkout/pyproject.toml"; } | sha256sum)
    venv=$cache/venv-${key:0:12}
    [ ! -e "$venv/complete" ] || return 0
    exec {lock}>"$cache/venv.lock"
    flock "$lock"
    if [ ! -e "$venv/complete" ]; then
        say "making $venv"
        rm -rf "$venv"
        "$python" -m venv "$venv"
        "$venv/bin/python" "$support/dependencies.py" "$checkout/pyproject.toml" >"$venv/runtime.txt"
        "$venv/bin/python" -m pip install -q --disable-pip-version-check \
            -r "$support/requirements.txt" -r "$venv/runtime.txt"
        # What packaging/zipapp.sh puts into podpy.pyz.
        "$venv/bin/python" -m pip install -q --disable-pip-version-check \
            --target "$venv/dependencies" -r "$venv/runtime.txt"
        touch "$venv/complete"
    fi
    exec {lock}>&-
}

# An ordinary user with subordinate ids, who has no other purpose.
make_user() {
    local user=$1 kind file next
    if ! id "$user" >/dev/null 2>&1; then
        say "adding the user $user"
        useradd --no-create-home --home-dir /nonexistent --shell /bin/sh "$user"
    fi
    for kind in uid gid; do
        file=/etc/sub$kind
        touch "$file"
        ! grep -q "^$user:" "$file" || continue
        next=$(awk -F: 'BEGIN { top = 100000 } $2 + $3 > top { top = $2 + $3 } END { print top }' "$file")
        say "giving $user the sub${kind}s $next-$((next + 65535))"
        usermod "--add-sub${kind}s" "$next-$((next + 65535))" "$user"
    done
}

run_as_root() {
    install_packages
    make_user "$test_user"
    make_user "$test_user-2"  # for what must not depend on the user
    cache=$(cache_directory "$test_user")
    if $debian13; then
        [ "${what[0]}" = -m ] || set -- --bench "$@"
        exec bash "$support/debian13.sh" "$checkout" "$cache" "$@"
    fi
    make_venv
    mkdir -p "$cache/user" && chown "$test_user:" "$cache/user"
    export PODPY_TEST_CACHE=$cache/user
    exec unshare --mount --propagation private \
        bash "$support/bed.sh" "$checkout" "$test_user" "$venv/bin/python" "${what[@]}" "$@"
}

run_as_user() {
    local package missing=()
    for package in "${packages[@]}"; do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] || say "neither root nor sudo: these stay missing: ${missing[*]}"
    ! $debian13 || { say "--debian13 needs root"; exit 1; }
    cache=$(cache_directory "$USER_NOW")
    make_venv
    cd "$checkout"
    PYTHONPATH=$checkout exec "$venv/bin/python" "${what[@]}" "$@"
}

USER_NOW=$(id -un)
all=("$@")
while :; do
    case ${1:-} in
        --debian13) debian13=true ;;
        --bench) what=(tests/bench/run.py) ;;
        *) break ;;
    esac
    shift
done

if [ "$(id -u)" = 0 ]; then
    run_as_root "$@"
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    say "going on as root by sudo, to set things up"
    exec sudo CI="${CI:-}" bash "$0" "${all[@]}"
else
    run_as_user "$@"
fi
