#!/bin/sh
# routed-switch.sh CONTROL BRIDGE GATEWAY COMMAND...: start the switch COMMAND, which will answer
# on CONTROL, and let its own tunnels go out by BRIDGE to GATEWAY, if that bridge is there.
set -eu

control=$1 bridge=$2 gateway=$3
shift 3

route() {
    ovs-appctl --target="$control" ovs/route/add "$1" "$bridge" "$gateway" >/dev/null 2>&1
}

# Routes end with the process. Two halves of all addresses are longer than a default route: Open
# vSwitch takes them before any that it copies from the kernel.
if [ -e "/sys/class/net/$bridge" ]; then
    # $$ is the switch, soon; it never asks for the end of a child.
    (while kill -0 $$ && ! { route 0.0.0.0/1 && route 128.0.0.0/1; }; do sleep 0.2; done &)
fi
exec "$@"
