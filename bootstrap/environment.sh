# shellcheck shell=sh disable=SC2154,SC1090 # `checkout` comes from outside; os-release is data
# Finds and makes the Python environment. Sourced by `dozen` and `tests/run`, which set `checkout`.
#
# An environment is named after what is in it: the lock file, the groups and Python's version.
# Two stamps, each written last, say that it can be trusted: `.dependencies` and `.package`.
# So a kill at any moment leaves an environment that the next call completes or makes anew.

# What a distribution calls its packages, and how they are installed, is in files of their own.

python= # the one that environments are made from; by default that of the distribution's file
os_release=/etc/os-release
space_needed=900 # MiB: 470 for the environment and uv, 200 for bytecode, the rest to breathe
public_index=https://pypi.org/simple
sdists="ovs simplegeneric" # have no wheel; built with the setuptools of uv.lock, not a newer one

say() { printf 'dozen: %s\n' "$1" >&2; }

fail() { # STATUS SENTENCE...
    status=$1
    shift
    printf 'dozen: %s\n' "$*" >&2
    exit "$status"
}

hash12() { sha256sum | cut -c1-12; }

# Reads the files of the distribution that this is, or of the nearest one that it is made from.
know_distribution() {
    for distribution in $(. "$os_release" && echo "$ID ${ID_LIKE:-}") debian; do
        [ ! -r "$checkout/bootstrap/distributions/$distribution.sh" ] || break
    done
    . "$checkout/bootstrap/distributions/$distribution.sh"
}

known_distributions() { # for people
    for file in "$checkout"/bootstrap/distributions/*.sh; do
        (. "$file" && echo "$known_as")
    done | paste -sd , - | sed 's/,/, /g'
}

# Sets `environment` and `source_hash`, which all the rest uses.
# Arguments: the base directory; the kind, `env` or `dev` (which adds what the tests need).
find_environment() {
    base=$1 kind=$2 log=$1/setup.log
    know_distribution
    version=$(readlink -f "$python")
    environment=$base/$kind-$({ cat "$checkout/uv.lock" && echo "${version##*/}" && more_ingredients; } | hash12)
    source_hash=$(cd "$checkout" &&
        find src pyproject.toml LICENSE NOTICE bootstrap/package.py -name __pycache__ -prune -o -type f -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum | hash12)
}

more_ingredients() { # files beside the lock file that say what is in an environment
    [ -z "$ingredients" ] || (cd "$checkout" && cat "$ingredients")
}

has_stamp() { # NAME VALUE
    stamp=
    [ ! -r "$environment/.$1" ] || read -r stamp <"$environment/.$1"
    [ "$stamp" = "$2" ]
}

is_ready() { has_stamp package "$source_hash" && [ -x "$environment/bin/python" ]; }

# There is one that knows our words, and a killed installation of ours has not left half of it.
can_python() {
    [ -x "$early_python" ] && { [ ! -e "$base/apt-started" ] || is_installed python3; } &&
        "$early_python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))'
}

# What needs no environment ends here: help, doctor, and what was mistyped.
early() { # WORD...
    status=0
    "$early_python" -I -B "$checkout/bootstrap/early.py" "$base" "$(index_url)" "$@" || status=$?
    [ "$status" = 64 ] || exit "$status"
}

quoted() { # WORD...: as a person would type them, each after a blank
    for word in "$@"; do
        case $word in
        "" | *[!A-Za-z0-9_./:=@%+,-]*) printf " '%s'" "$(printf %s "$word" | tr -d '\000-\037\177' | sed "s/'/'\\\\''/g")" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
}

enter_base() { # the folder that all is made in, for one dozen at a time
    umask 022
    check_system
    { mkdir -p "$base" 2>/dev/null && [ -w "$base" ]; } || fail 3 "$base cannot be written." \
        "Make it writable, or choose another place: DOZEN_ENV_DIR=/some/directory."
    (umask 077 && : >>"$base/lock")
    close_locks
    exec 9>>"$base/lock"
    if ! flock -n 9; then
        say "Another dozen is making the environment; waiting for it."
        flock 9
    fi
}

make_python() ( # a subshell: umask, lock and variables end with it
    enter_base
    step "Python from this system's packages" install_packages
)

make_environment() ( # as above
    started=$(date +%s%N)
    enter_base
    find_environment "$base" "$kind"
    ! is_ready || exit 0
    if ! has_stamp dependencies "$kind" || [ ! -x "$environment/bin/python" ]; then
        free=$(($(df --output=avail -k "$base" | tail -n 1) / 1024))
        [ "$free" -ge "$space_needed" ] || fail 3 "$base has $free MiB free, and the environment" \
            "needs $space_needed. Make room, or choose another place: DOZEN_ENV_DIR=/some/directory."
        step "Python from this system's packages" install_packages
        "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' ||
            fail 3 "$("$python" --version) cannot run DozenCloud, which needs 3.11, 3.12 or 3.13." \
                "Use one of these: $(known_distributions)."
        find_environment "$base" "$kind" # Python's version may not have been known before
        step "uv, which makes the environment" install_uv
        step "OpenStack and its libraries" install_dependencies
    fi
    step "DozenCloud from $checkout" install_package
    say "environment ready after $(seconds_since "$started") s."
)

close_locks() { # whoever can open a lock can hold it, and have every dozen wait for ever
    mkdir -p "$base/cache"
    for path in "$base/lock" "$base"/*/.lock; do # uv's are for everybody
        [ ! -f "$path" ] || chmod 600 "$path"
    done
    chmod 700 "$base/cache"
}

check_system() {
    [ "${DOZEN_UNSUPPORTED:-}" != 1 ] || return 0
    system=$(. "$os_release" && echo "$ID ${VERSION_ID:-}")
    for release in $releases; do
        [ "$system" != "$distribution $release" ] || return 0
    done
    fail 3 "This system is $(. "$os_release" && echo "${PRETTY_NAME:-$system}"); DozenCloud is made for" \
        "$(known_distributions). To try all the same: DOZEN_UNSUPPORTED=1."
}

seconds_since() {
    ms=$((($(date +%s%N) - $1) / 1000000))
    echo "$((ms / 1000)).$((ms % 1000 / 100))"
}

step() { # TITLE FUNCTION
    step_started=$(date +%s%N)
    printf 'dozen: %s ... ' "$1" >&2
    : >"$log" # appended to, because the package manager's part of it is read while it grows
    if "$2" </dev/null 3>&2 >>"$log" 2>&1; then
        printf '%s s\n' "$(seconds_since "$step_started")" >&2
    else
        printf 'failed\n' >&2
        explain
    fi
}

install_packages() {
    missing=
    for package in $packages $(more_packages); do
        is_installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || [ -e "$base/apt-started" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "needs root for: $install_command$missing"
        return 1
    fi
    ours=$base/apt-started # stays when we are killed while packages are half installed
    [ -e "$ours" ] || ours=
    : >"$base/apt-started"
    install_missing || return 1
    rm "$base/apt-started"
}

# What a killed program left there goes; in /tmp its locks would have names that everybody knows.
make_own_tmp() {
    own_tmp=$base/tmp
    rm -rf "$own_tmp" && mkdir -p "$own_tmp" && chmod 700 "$own_tmp"
}

install_uv() {
    uv_directory=$base/uv-$(hash12 <"$checkout/bootstrap/uv.txt")
    uv=$uv_directory/bin/uv
    [ ! -x "$uv" ] || return 0
    make_own_tmp || return 1
    echo "from $(index_url)" # pip does not say which server it could not reach
    set -- /usr/share/python-wheels/pip-*.whl # pip runs out of its wheel: no venv to make first
    rm -rf "$uv_directory.half" &&
        TMPDIR="$own_tmp" "$python" -I "$1/pip" install --quiet --disable-pip-version-check --retries 2 --no-compile --no-deps \
            --only-binary :all: --require-hashes --requirement "$checkout/bootstrap/uv.txt" \
            --target "$uv_directory.half" &&
        mv "$uv_directory.half" "$uv_directory"
}

install_dependencies() {
    rm -rf "$environment" || return 1
    unset VIRTUAL_ENV CONDA_PREFIX
    export UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 UV_PROJECT_ENVIRONMENT="$environment"
    export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}" UV_CACHE_DIR="${UV_CACHE_DIR:-$base/cache}"
    make_own_tmp || return 1
    export TMPDIR="$own_tmp"
    set -- --project "$checkout" --frozen
    [ "$kind" = dev ] || set -- "$@" --no-dev
    left_to_system=$(not_from_index)
    if [ "$(index_url)" != "$public_index" ]; then
        install_from_index "$@" || return 1
    else
        for package in $sdists; do
            set -- "$@" --no-build-isolation-package "$package"
        done
        for package in $left_to_system; do
            set -- "$@" --no-install-package "$package"
        done
        "$uv" sync "$@" --no-install-project --python "$python" || return 1
    fi
    complete_environment || return 1
    close_locks
    echo "$kind" >"$environment/.dependencies"
}

index_url() { # where this machine gets its Python packages
    configured=$(sed -n 's/^ *index-url *= *//p' /etc/pip.conf "$HOME/.config/pip/pip.conf" \
        "$HOME/.pip/pip.conf" 2>/dev/null | tail -n 1)
    echo "${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-${configured:-$public_index}}}}"
}

# `uv sync --frozen` downloads from the addresses in uv.lock. Where there is only a mirror, the
# same versions with the same hashes come from the mirror.
install_from_index() {
    UV_DEFAULT_INDEX=$(index_url)
    export UV_DEFAULT_INDEX
    "$uv" venv --python "$python" "$environment" || return 1
    wanted=$base/requirements.txt
    for package in $left_to_system; do
        set -- "$@" --no-emit-package "$package"
    done
    without=
    for package in $sdists; do
        without="$without --no-emit-package $package"
    done
    # shellcheck disable=SC2086 # a list of options
    for left_out in "$without" ""; do # what the sdists are built with has to be there before them
        "$uv" export --quiet "$@" --no-emit-project $left_out --output-file "$wanted" &&
            "$uv" pip install --python "$environment/bin/python" --no-deps --require-hashes \
                --no-build-isolation --requirements "$wanted" || return 1
    done
}

install_package() {
    rm -f "$environment/.package" &&
        "$environment/bin/python" -I "$checkout/bootstrap/package.py" "$checkout" &&
        echo "$source_hash" >"$environment/.package"
}

# Ends with the cause of the failed step in one sentence, and what to do, as far as its output tells.
explain() {
    output=$(cat "$log")
    ! holder=$(lock_holder) ||
        fail 1 "Another program is installing packages: ${holder:-see $log}." \
            "Wait until it has ended, then run this command again."
    explain_damage
    host=$(sed -n "s/.*resolving '\([^']*\)'.*/\1/p; s/.*host='\([^']*\)'.*/\1/p
        s#.*https\{0,1\}://\([^/ :)]*\).*#\1#p" "$log" | head -n 1)
    case $output in
    *"needs root for: "*)
        fail 3 "This $(tail -n 1 "$log")." ;;
    *"No space left on device"* | *"enough free space"* | *"more space needed on"*)
        fail 1 "The disk is full. Make room (see: df -h / $base), then run this command again." ;;
    *"Read-only file system"*)
        fail 1 "A file system is read-only: $(grep -m 1 'Read-only file system' "$log")." \
            "Make it writable, then run this command again." ;;
    *"Temporary failure resolving"* | *"Could not resolve"* | *"Could not connect"* | \
        *"onnection timed out"* | *"onnection refused"* | *"NewConnectionError"* | *"dns error"* | \
        *"resolve host name"* | *"connect to server"* | *"Failed to download metadata"* | \
        *"Failed to fetch"* | *"error sending request"* | *"ProxyError"* | *"unreachable"*)
        fail 1 "${host:-the package server} cannot be reached. Is the network up? Behind a proxy, set" \
            "http_proxy and https_proxy, and run: sudo -E ./dozen up" ;;
    esac
    tail -n 8 "$log" >&2
    fail 1 "The last step failed, for the reason above. Mend it and run this command again." \
        "All of its output: $log"
}
