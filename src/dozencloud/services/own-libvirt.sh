#!/bin/sh
# usage: own-libvirt.sh OURS THEIRS [OURS THEIRS ...] -- COMMAND [ARGUMENT ...]
# Mounts our folders over those that libvirt has compiled in, then runs the command.
# Called in private mount and UTS namespaces. NO_KVM: a file to cover an unusable /dev/kvm with.
# NODE: the name that this machine has for the cloud; libvirt tells Nova its host name.
set -eu
while [ "$1" != -- ]; do
    mkdir -p "$2"
    mount --bind "$1" "$2"
    shift 2
done
shift
if [ -n "${NO_KVM:-}" ]; then
    mount --bind "$NO_KVM" /dev/kvm
    mount -o remount,ro,bind /dev/kvm
fi
hostname "$NODE"
exec "$@"
