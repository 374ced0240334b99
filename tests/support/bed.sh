#!/usr/bin/env bash
# bed.sh CHECKOUT USER PYTHON ARGUMENTS…: an honest rootless host, for the length of one command.
#
# Runs as root in a private mount namespace (`unshare --mount --propagation private`) and gives
# USER what a desktop or a server would: cgroup2 on /sys/fs/cgroup with a subtree of its own, a
# shared /, usable /dev/fuse and /dev/net/tun, a runtime directory, a home, and a network with a
# neighbour on it (world.sh).  Then it runs `PYTHON ARGUMENTS…` as USER in a copy of the checkout,
# and checks that nothing is left.
set -uo pipefail

checkout=$1 user=$2 python=$3
support=$(dirname "$0")
shift 3
uid=$(id -u "$user") gid=$(id -g "$user")
cgroups=/sys/fs/cgroup
cgroup=$cgroups/podpy-test.$$
base=$(mktemp -d /var/tmp/podpy-test.XXXXXX)
runtime=/run/podpy-test.$$
world=$runtime/world
agent= no_world="it is not made yet"
part=all elsewhere=
leaks=0

say() { printf 'bed: %s\n' "$*" >&2; }
leak() { say "LEFT BEHIND: $*"; leaks=1; }

lay_cgroups() {
    if [ "$(stat -fc %T $cgroups 2>/dev/null)" != cgroup2fs ]; then
        mount -t cgroup2 none $cgroups || { say "no cgroup2: tests that need one are skipped"; cgroup=; return; }
    fi
    mkdir "$cgroup" || { say "cgroups are read-only: tests that need one are skipped"; cgroup=; return; }
    # Controllers that the host has elsewhere (v1) cannot be had here; freeze and kill can.
    local controller
    for controller in $(cat "$cgroup/cgroup.controllers"); do
        echo "+$controller" >"$cgroup/cgroup.subtree_control" 2>/dev/null || true
    done
    # A subtree for each test process, so that what one leaves is not taken for another's.
    # Processes may move between them, but groups are made within one only.
    mkdir "$cgroup"/{session,main,gw{0..7}}
    chown "$user:" "$cgroup/cgroup.procs"
    chown -R "$user:" "$cgroup"/*/
}

# A device node of our own over the host's, when the user cannot open the host's.
lay_device() {
    local path=$1 major=$2 minor=$3 own=$runtime/dev-${1##*/}
    setpriv --reuid="$uid" --regid="$gid" --clear-groups test -r "$path" -a -w "$path" && return
    mkdir -p "${path%/*}"
    [ -e "$path" ] || touch "$path"
    mknod -m 666 "$own" c "$major" "$minor" && mount --bind "$own" "$path" ||
        say "$path cannot be made usable: tests that need it are skipped"
}

lay_files() {
    chmod 755 "$base"
    mkdir "$runtime" && mount -t tmpfs -o mode=755 tmpfs "$runtime"
    # For the tests of a full disk: 24 MB, of which the images take a few.
    mkdir "$runtime/small" && mount -t tmpfs -o size=24m,mode=700 tmpfs "$runtime/small"
    mkdir -m 700 "$runtime/user" "$base/home" "$base/tmp" "$base/stores" "$base/checkout"
    # A copy: the checkout may lie where the user cannot read, and may change under the run.
    tar -C "$checkout" -c --exclude=./.git --exclude=__pycache__ --exclude='*.pyz' . |
        tar -C "$base/checkout" -x --no-same-owner
    chmod 755 "$base/checkout" && chmod -R a+rX "$base/checkout"
    chown -R "$user:" "$runtime/user" "$runtime/small" "$base"/{home,tmp,stores,checkout}
}

# A network of our own, and the world beyond it (world.sh); tests are told why when there is none.
lay_world() {
    mkdir "$world"
    if ! no_world=$(bash "$support/world.sh" "$world" 2>&1 >/dev/null); then
        no_world=${no_world:-no network namespaces can be made}
        say "tests run in the host's own network: $no_world"
        return
    fi
    no_world=
    mkdir "$world/zone"
    chown "$user:" "$world" "$world/zone" "$world/resolv.conf"
    # The interfaces in /sys are those of the network it was mounted in; cgroups lie below.
    mkdir "$runtime/cgroups"
    mount --rbind /sys/fs/cgroup "$runtime/cgroups"
    if nsenter --net="$world/bed" mount -t sysfs -o nosuid,nodev,noexec sysfs /sys; then
        mount --rbind "$runtime/cgroups" /sys/fs/cgroup
    else
        say "/sys shows the network interfaces of the host"
    fi
    umount -R -l "$runtime/cgroups"
    mount --bind "$world/resolv.conf" /etc/resolv.conf || say "/etc/resolv.conf is the host's"
}

start_agent() {
    [ -z "$no_world" ] || return
    local answer=
    exec {lines}< <(
        network=$world/world
        as_user /usr/bin/python3 -IS "$base/checkout/tests/support/world_agent.py" serve "$world"
    )
    read -r answer agent <&"$lines"
    [ "$answer" = ready ] || { no_world="its agent does not start"; say "no world: $no_world"; }
}

end_agent() {
    [ -n "$agent" ] || return
    kill "$agent"
    while kill -0 "$agent" 2>/dev/null; do sleep 0.02; done
}

# COMMAND… as the user, in the bed's cgroup, with the environment of a login.
as_user() {
    (
        [ -z "$cgroup" ] || echo "$BASHPID" >"$cgroup/session/cgroup.procs"
        cd "$base/checkout" || exit 1
        enter=()
        [ -n "$no_world" ] || enter=(nsenter --net="${network:-$world/bed}")
        exec "${enter[@]}" setpriv --reuid="$uid" --regid="$gid" --init-groups --inh-caps=-all \
            env -i HOME="$base/home" USER="$user" LOGNAME="$user" SHELL=/bin/sh LANG=C.UTF-8 \
            PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin TERM="${TERM:-dumb}" \
            XDG_RUNTIME_DIR="$runtime/user" TMPDIR="$base/tmp" \
            PODPY_TEST_WORLD="$world" PODPY_TEST_NO_WORLD="$no_world" \
            CI="${CI:-}" PODPY_TEST_CACHE="${PODPY_TEST_CACHE:-}" PODPY_TEST_SMALL="$runtime/small" \
            PYTEST_ADDOPTS="--basetemp=$base/tmp/t ${PYTEST_ADDOPTS:-}" \
            PODPY_TEST_BASE="$base/stores" PODPY="${PODPY:-}" \
            PODPY_TEST_PART="$part" PODPY_TEST_ELSEWHERE="${elsewhere:+$base/elsewhere.digest}" "$@"
    )
}

# Nothing was named, or something that has such tests.
wants_internet() {
    local word named=()
    for word in "$@"; do
        word=${word%%::*}
        [ ! -e "$base/checkout/$word" ] || named+=("$base/checkout/$word")
    done
    [ ${#named[@]} -eq 0 ] || grep -rqs "mark\.internet" "${named[@]}"
}

# A build by another user: tests/integration/test_build_digests.py compares it with its own.
build_elsewhere() {
    [ "$1" = -m ] && id "$user-2" >/dev/null 2>&1 || return 0
    mkdir "$base/elsewhere" && chown "$user-2:" "$base/elsewhere"
    (
        cd "$base/checkout" || exit
        setpriv --reuid="$user-2" --regid="$user-2" --init-groups --inh-caps=-all \
            env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin PYTHONPATH=tests:. \
            "$python" -m support.digests "$base/elsewhere" \
            >"$base/elsewhere.partial" 2>&1 </dev/null
        mv "$base/elsewhere.partial" "$base/elsewhere.digest"
    ) &
    elsewhere=$!
}

build_podpy() {
    local built
    built=$(as_user env PODPY_DEPENDENCIES="${python%/bin/*}/dependencies" \
        bash packaging/zipapp.sh "$base/tmp/podpy.pyz") || return 1
    say "$built"
    mv "$base/tmp/podpy.pyz" "$base/podpy.pyz" && PODPY=$base/podpy.pyz
}

# The benchmarks' big image is made from the distribution's mirror, which the world has not.
fetch_image() {
    [ "$1" = tests/bench/run.py ] || return 0
    [[ " $* " != *" --only "* || " $* " =~ load|pull|build ]] || return 0
    as_user env PYTHONPATH=tests "$python" -m bench.image
}

# The tests marked "internet", in the host's own network; the others have run by now.
run_outside() {
    [ "$1" = -m ] && [ -z "$no_world" ] && wants_internet "$@" || return 0
    umount /etc/resolv.conf
    no_world="tests of the Internet run in the host's network" part=internet
    as_user "$python" "$@"
    local outside=$? nothing=5  # pytest's word for "no test was selected"
    if [ $code -eq $nothing ] || { [ $code -eq 0 ] && [ $outside -ne $nothing ]; }; then
        code=$outside
    fi
}

# Everything the command started is in the cgroup; everything it mounted is in this namespace.
check() {
    local line
    if [ -n "$cgroup" ]; then
        while read -r line; do
            leak "process $(ps -o pid=,user=,args= -p "$line" || echo "$line")"
        done < <(find "$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null)
        while read -r line; do
            leak "cgroup $line"
        done < <(find "$cgroup" -mindepth 2 -type d)
    fi
    while read -r line; do
        leak "mount $line"
    done < <(comm -13 <(printf '%s\n' "$mounts_before") <(mounts))
    for line in "$base/stores"/*; do
        [ ! -e "$line" ] || leak "directory $line: $(find "$line" | head -n 5 | tr '\n' ' ')"
    done
}

mounts() { awk '{ print $5 }' /proc/self/mountinfo | sort; }

clear_away() {
    if [ -n "$cgroup" ]; then
        echo 1 >"$cgroup/cgroup.kill" 2>/dev/null
        local tries=0
        until find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || [ $((tries += 1)) -gt 100 ]; do
            sleep 0.05
        done
    fi
    umount -R -l "$runtime" 2>/dev/null
    rmdir "$runtime"
    rm -rf --one-file-system "$base"
}

# Read as a whole before it runs, so that an edit during a run changes nothing.
{
    trap clear_away EXIT
    trap 'exit 130' INT TERM
    lay_files
    lay_cgroups
    lay_device /dev/fuse 10 229
    lay_device /dev/net/tun 10 200
    build_podpy || { say "packaging/zipapp.sh failed"; exit 1; }
    fetch_image "$@"
    lay_world
    start_agent
    mount --make-rshared /
    build_elsewhere "$@"
    mounts_before=$(mounts)
    [ -n "$no_world" ] || part=world
    as_user "$python" "$@"
    code=$?
    end_agent
    [ -z "$elsewhere" ] || wait "$elsewhere"
    run_outside "$@"
    check
    [ $code -ne 0 ] || code=$leaks
    exit $code
}
