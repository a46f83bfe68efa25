#!/bin/sh
# userspace-switch.sh CONTROL PROVIDER TUNNELS GATEWAY COMMAND...: start the switch COMMAND, which
# answers on CONTROL, and do for the bridges PROVIDER and TUNNELS, where they are there, what does
# not outlive its process.
set -eu

control=$1 provider=$2 tunnels=$3 gateway=$4
shift 4

switch() {
    ovs-appctl --target="$control" "$@" 2>/dev/null
}

opened() { # BRIDGE
    until switch ofproto/list | grep -qx "$1"; do
        kill -0 $$ 2>/dev/null || return # $$ is the switch
        sleep 0.2
    done
}

routed() { # NETWORK; refused until the switch has seen the address of the bridge
    until switch ovs/route/add "$1" "$tunnels" "$gateway" >/dev/null; do
        kill -0 $$ 2>/dev/null || return
        sleep 0.2
    done
}

turned() { # what came through the kernel is for this machine's address again (tunnels.flows)
    address=$(ovs-vsctl --timeout=5 get open . external_ids:ovn-encap-ip | tr -d '"')
    for port in 6081 4789; do
        ovs-ofctl add-flow "$tunnels" \
            "udp,nw_dst=169.254.60.81,tp_dst=$port,actions=mod_nw_dst:$address,LOCAL"
    done
}

# In subshells that end at once: the switch does not wait for children.
if [ -e "/sys/class/net/$provider" ]; then
    # Packets whose checksum is left to the card are dropped where a tunnel begins.
    (opened "$provider" && ethtool -K "$provider" tx off >/dev/null &)
fi
if [ -e "/sys/class/net/$tunnels" ]; then
    # Two halves of all addresses are longer than a default route: taken before the kernel's.
    (opened "$tunnels" && routed 0.0.0.0/1 && routed 128.0.0.0/1 && turned &)
fi
exec "$@"
