# shellcheck shell=sh disable=SC2034,SC2154 # for environment.sh, which says where `checkout` is
# Ubuntu, to the launcher: as Debian.

# shellcheck source=bootstrap/distributions/debian.sh
. "$checkout/bootstrap/distributions/debian.sh"
releases="24.04" known_as="Ubuntu 24.04"
