# shellcheck shell=sh disable=SC2034,SC2154 # for environment.sh, which says where `checkout` is
# Fedora, to the launcher. Not tried on a real one (see src/dozencloud/host/distributions/fedora.py).

releases="44 45" known_as="Fedora 44 and 45 (not tried)"
# Its own Python is newer than what OpenStack's libraries are made for.
: "${python:=/usr/bin/python3.13}"
early_python=/usr/bin/python3
[ -x "$early_python" ] || early_python=$python
# The latter three compile libvirt's module, which Fedora has for its own Python only.
packages="python3.13 python-pip-wheel ca-certificates python3.13-devel libvirt-devel gcc"
ingredients=bootstrap/libvirt.txt

# shellcheck source=bootstrap/packagemanagers/dnf.sh
. "$checkout/bootstrap/packagemanagers/dnf.sh"

more_packages() { :; }

not_from_index() { :; }

complete_environment() {
    UV_DEFAULT_INDEX=$(index_url)
    export UV_DEFAULT_INDEX
    "$uv" pip install --python "$environment/bin/python" --no-deps --require-hashes \
        --no-build-isolation --requirements "$checkout/bootstrap/libvirt.txt"
}
