# shellcheck shell=sh disable=SC2034,SC2154 # for environment.sh, which says where `checkout` is
# Debian, to the launcher.

releases="12 13" known_as="Debian 12 and 13"
: "${python:=/usr/bin/python3}"
early_python=$python
packages="python3 python3-pip-whl ca-certificates"
ingredients=

# PyPI has no wheels of these for 32-bit ARM, and compiling them takes a small board an hour.
armhf_modules="cffi greenlet msgpack psutil pynacl pyyaml setproctitle yappi"
armhf_packages="python3-cffi python3-cffi-backend python3-greenlet python3-msgpack python3-psutil
    python3-nacl python3-yaml python3-setproctitle python3-yappi"
armhf_unused="backports-zstd numpy" # of no use to a node

# shellcheck source=bootstrap/packagemanagers/apt.sh
. "$checkout/bootstrap/packagemanagers/apt.sh"

is_armhf() { [ "$(dpkg --print-architecture)" = armhf ]; }

more_packages() { ! is_armhf || echo "$armhf_packages"; }

not_from_index() { ! is_armhf || echo "$armhf_modules $armhf_unused"; } # Python packages

complete_environment() { ! is_armhf || link_from_debian; }

link_from_debian() { # modules of the system's Python, which the environment is made from
    modules=/usr/lib/python3/dist-packages
    # shellcheck disable=SC2086 # a list of names
    dpkg -L $armhf_packages | sed -n "s#^$modules/[^/]*\$#&#p" |
        xargs ln -sfn -t "$environment"/lib/python3.*/site-packages
}
