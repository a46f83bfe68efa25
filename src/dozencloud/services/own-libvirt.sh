#!/bin/sh
# usage: own-libvirt.sh OURS THEIRS [OURS THEIRS ...] -- COMMAND [ARGUMENT ...]
# Mounts our folders over those that libvirt has compiled in, then runs the command.
# Called in a private mount namespace. NO_KVM: a file to cover an unusable /dev/kvm with.
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
exec "$@"
