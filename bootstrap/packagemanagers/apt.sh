# shellcheck shell=sh disable=SC2034,SC2154 # for environment.sh, which sets what is not set here
# apt and dpkg, to the launcher.

install_command="apt-get install"

is_installed() { # PACKAGE
    dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

install_missing() { # those of `missing`; finishes what was begun and cut off
    set -- /var/lib/apt/lists/*_Packages*
    [ -e "$1" ] || apt update || return 1
    # shellcheck disable=SC2086 # a list of names
    set -- install --yes --no-install-recommends ${ours:+--fix-broken} $missing
    repaired=
    until apt "$@"; do
        repair_apt || return 1
    done
}

repair_apt() { # finishes what we began; what someone else began is theirs to judge
    ! lock_holder >/dev/null || return 1
    repair=update
    if dpkg_was_interrupted; then
        [ -n "$ours" ] || { rm "$base/apt-started" && return 1; }
        repair=configure
    fi
    case $repaired in *"$repair"*) return 1 ;; esac
    repaired="$repaired $repair"
    if [ "$repair" = update ]; then
        apt update
    else
        # Fails where a package waits for one that is not unpacked yet; apt sees to that.
        DEBIAN_FRONTEND=noninteractive dpkg --configure -a --force-confold || true
    fi
}

dpkg_was_interrupted() { tail -n 3 "$log" | grep -q 'dpkg was interrupted'; } # says apt at its end

apt() { # waits for other programs: the first upgrades of a new machine take minutes
    for try in $(seq 150); do
        DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -o DPkg::Lock::Timeout=0 \
            -o Acquire::Retries=2 "$@" && return 0
        lock_holder >/dev/null || return 1
        [ "$try" != 1 ] || printf '(waiting for %s) ' "$(lock_holder)" >&3
        sleep 2
    done
    return 1
}

lock_holder() { # who kept apt from its lock, according to its last words
    tail -n 3 "$log" | grep -q 'Could not get lock' || return 1
    tail -n 3 "$log" | sed -n 's/.*held by \(process.*\)/\1/p'
}

explain_damage() {
    ! dpkg_was_interrupted ||
        fail 1 "An earlier installation of packages was interrupted." \
            "Run: sudo dpkg --configure -a, then this command again."
}
