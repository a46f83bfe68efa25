# shellcheck shell=sh disable=SC2034,SC2154 # for environment.sh, which sets what is not set here
# dnf and rpm, to the launcher, in words that dnf 4 and dnf 5 have in common.

install_command="dnf install"

is_installed() { # PACKAGE
    rpm --query --quiet "$1" 2>/dev/null
}

install_missing() { # those of `missing`; what was begun and cut off is installed anew
    begun=
    if [ -n "$ours" ]; then # rpm does not note whose scripts have not run
        for package in $packages; do
            ! is_installed "$package" || begun="$begun $package"
        done
    fi
    # shellcheck disable=SC2086 # lists of names
    { [ -z "$begun" ] || run_dnf reinstall $begun; } && { [ -z "$missing" ] || run_dnf install $missing; }
}

run_dnf() { # waits for other programs: the first upgrades of a new machine take minutes
    for try in $(seq 150); do
        LC_ALL=C dnf --assumeyes --setopt=install_weak_deps=False "$@" && return 0
        lock_holder >/dev/null || return 1
        [ "$try" != 1 ] || printf '(waiting for %s) ' "$(lock_holder)" >&3
        sleep 2
    done
    return 1
}

lock_holder() { # who kept dnf from rpm's lock, according to its last words
    tail -n 3 "$log" | grep -Eq 'transaction lock' || return 1
    echo "another program"
}

explain_damage() { :; }
