#!/usr/bin/env bash
# world.sh DIRECTORY: two network namespaces below DIRECTORY, joined by a cable.
#
#   bed     what the user's host is in: eth0 198.51.100.2 and 2001:db8:1::2, everything by way of .1
#   world   what lies beyond: 198.51.100.1 and 2001:db8:1::1, and every address of 203.0.113.0/24
#           and 2001:db8:2::/64
#
# All are documentation addresses (RFC 5737, RFC 3849): no host uses them.  Runs as root, in a
# private mount namespace: the namespaces are kept by mounts on files and go with it.  Nothing is
# changed in the network namespace that this is called in.
set -euo pipefail

directory=$1

make() {
    touch "$directory/$1"
    unshare --net="$directory/$1" true
    within "$1" ip link set lo up
}

within() { nsenter --net="$directory/$1" "${@:2}"; }

mkdir -p "$directory"
make bed
make world
within world ip link add eth0 type veth peer name eth0 netns "$directory/bed"

within bed ip address add 198.51.100.2/24 dev eth0
within bed ip address add 2001:db8:1::2/64 dev eth0 nodad
within bed ip link set eth0 up
within bed ip route add default via 198.51.100.1
within bed ip -6 route add default via 2001:db8:1::1
# What systemd sets on every host: programs may ping without a capability.
within bed sh -c 'echo "0 2147483647" >/proc/sys/net/ipv4/ping_group_range'

within world ip address add 198.51.100.1/24 dev eth0
within world ip address add 2001:db8:1::1/64 dev eth0 nodad
within world ip link set eth0 up
within world ip route add local 203.0.113.0/24 dev lo
within world ip -6 route add local 2001:db8:2::/64 dev lo
# Binding one of those addresses asks for an interface that has it, in IPv6.
within world sh -c 'echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind'
# Servers of the world are the user's processes: 53 and 80 are as good as any.
within world sh -c 'echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start'
within world sh -c 'echo "0 2147483647" >/proc/sys/net/ipv4/ping_group_range'

cat >"$directory/resolv.conf" <<END
nameserver 198.51.100.1
END
