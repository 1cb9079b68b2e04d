#!/bin/bash
# Set-up for `make demo`, `make test` and `make deb`: Debian's packages, then .venv. Run again, it only looks.
#
#   tools/setup.sh demo|test|deb             everything that is missing, through sudo where root is needed
#   tools/setup.sh packages demo|test|deb    Debian's packages only; as root
#
# The rule to keep: installing a package here starts no daemon and leaves none enabled, and what was on
# the machine before keeps its own settings.
set -euo pipefail

DEMO=(
    nftables iptables knockd fwknop-server fwknop-client nmap iproute2 openssh-client openssh-server util-linux
    python3 python3-venv
)
TEST=(
    "${DEMO[@]}" fish groff-base man-db mandoc openssl procps python3-cffi-backend strace systemd tcpdump zsh
)
DEB=(python3 python3-venv) # dpkg-deb is there wherever dpkg is

root=${SETUP_ROOT:-} # the tests stage the machine's files below a folder of theirs
etc=$root/etc
policy=$root/usr/sbin/policy-rc.d
state=$root/var/lib/knockgate-setup # exists while installing: how the machine was before
lock=$root/run/knockgate-setup.lock
python=$root/usr/bin/python3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$here/.venv

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 2; }

# --- Debian's packages ---------------------------------------------------------------------------

missing() { # PACKAGE...: those that are not installed, one a line
    local have package
    # dpkg-query fails when it does not know one of the names; what it printed still holds.
    have=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null) || true
    for package; do
        grep -qxF "installed $package" <<<"$have" || printf '%s\n' "$package"
    done
}

packages() { # demo|test|deb
    local kind=$1 wanted=("${TEST[@]}") lacking command
    [[ $kind != demo ]] || wanted=("${DEMO[@]}")
    [[ $kind != deb ]] || wanted=("${DEB[@]}")
    command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
        die "this needs Debian or Ubuntu with apt-get; the programs are those of: ${wanted[*]}"
    mapfile -t lacking < <(missing "${wanted[@]}")
    # A state folder without anything lacking is that of a set-up that was killed: root puts it right.
    ((${#lacking[@]})) || [[ -e $state ]] || return 0

    if [[ $(id -u) == 0 ]]; then
        install_as_root "${wanted[@]}" # no `||` here: it would switch off `set -e` inside
        return
    fi
    printf -v command '%q packages %s' "$here/tools/setup.sh" "$kind"
    may_sudo || die "missing packages: ${lacking[*]}; run as root: $command"
    sudo "$here/tools/setup.sh" packages "$kind"
}

may_sudo() { # asks for the password only where somebody can type it
    command -v sudo >/dev/null || return 1
    sudo -n true 2>/dev/null && return 0
    [[ -t 0 ]] || return 1
    say "root is needed to install packages"
    sudo true
}

install_as_root() { # PACKAGE...
    local lacking
    # An ordinary user's PATH, kept by su, lacks the folders that dpkg needs.
    export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
    # needrestart would restart other people's services on the way.
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    exec 9>"$lock"
    flock 9
    if [[ -e $state ]]; then
        say "an earlier set-up was interrupted; putting the machine right first"
        put_right
    fi
    mapfile -t lacking < <(missing "$@")
    if ((${#lacking[@]} == 0)); then
        exec 9>&-
        return
    fi

    say "installing ${lacking[*]}"
    trap put_right EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    remember
    hold_services
    apt_install "${lacking[@]}"
    mapfile -t lacking < <(missing "$@")
    ((${#lacking[@]} == 0)) || die "apt-get did not install: ${lacking[*]}"
    put_right
    exec 9>&-
}

apt_install() {
    local install=(install -y --no-install-recommends --no-remove -o Dpkg::Options::=--force-confold)
    # Lists that are missing or too old to resolve the names: fetch them, else save the time.
    run_apt "${install[@]}" --simulate "$@" >/dev/null 2>&1 || run_apt update || die "apt-get update failed"
    run_apt "${install[@]}" "$@" && return
    # The lists may name files that the mirror no longer has.
    run_apt update && run_apt "${install[@]}" "$@" || die "apt-get could not install: $*"
}

# A daemon that somebody's package starts must not inherit our lock, nor apt-get our input.
run_apt() { apt-get -q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" 9>&- </dev/null; }

# --- no daemon running, none enabled -------------------------------------------------------------

installed() { dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | LC_ALL=C sort -u; }

enabled() { # the links that start something at boot: systemd's, then SysV's
    {
        find "$etc/systemd/system" -type l 2>/dev/null || true
        find "$etc"/rc[2345S].d -name 'S[0-9][0-9]*' 2>/dev/null || true
    } | LC_ALL=C sort
}

services() { # names of all that can be started, as policy-rc.d hears them
    find "$etc/init.d" "$etc/systemd/system" "$root/lib/systemd/system/" "$root/usr/lib/systemd/system" \
        -maxdepth 1 ! -type d -printf '%f\n' 2>/dev/null | sed 's/\.service$//' | LC_ALL=C sort -u || true
}

remember() { # complete or not there at all
    rm -rf "$state.new"
    mkdir -p "$state.new"
    installed >"$state.new/installed"
    enabled >"$state.new/enabled"
    services >"$state.new/services"
    if [[ -e $policy || -L $policy ]]; then cp -a "$policy" "$state.new/policy-rc.d"; fi
    mv "$state.new" "$state"
}

hold_services() {
    cat >"$policy.knockgate" <<END
#!/bin/sh
# Temporary, by knockgate's tools/setup.sh: what it installs must not start by itself. Services that
# were here before are asked of the policy that was here before.
known='$state/services'
before='$state/policy-rc.d'
name=\$1
[ "\$name" != --quiet ] || name=\$2
name=\${name%.service}
case \$name in *@*) name=\${name%%@*}@ ;; esac
grep -qxF -e "\$name" "\$known" || exit 101
[ ! -x "\$before" ] || exec "\$before" "\$@"
[ -e /sbin/init ] || exit 101 # what invoke-rc.d says itself when there is neither policy nor init
exit 0
END
    chmod 755 "$policy.knockgate"
    mv -f "$policy.knockgate" "$policy"
}

put_right() { # undoes hold_services and leaves disabled what came enabled; also after a failure or Ctrl-C
    trap '' HUP INT TERM
    set +e
    if [[ -e $state ]]; then
        disable_newcomers
        if [[ -e $state/policy-rc.d || -L $state/policy-rc.d ]]; then
            mv -f "$state/policy-rc.d" "$policy"
        elif grep -qs "knockgate's tools/setup.sh" "$policy"; then
            rm -f "$policy"
        fi
        rm -rf "$state"
    fi
    rm -rf "$state.new" "$policy.knockgate"
    set -e
    trap - EXIT HUP INT TERM
}

disable_newcomers() {
    local package file name fresh off=()
    fresh=$(LC_ALL=C comm -13 "$state/enabled" <(enabled))
    while read -r package; do
        # The init system's own units are what makes a machine boot; they are no daemons of ours.
        case $package in systemd | systemd-* | udev | dbus | dbus-* | procps) continue ;; esac
        while read -r file; do
            name=${file##*/}
            case $file in
            */systemd/system/*.service | */systemd/system/*.socket | */systemd/system/*.timer | */systemd/system/*.path)
                grep -q "/${name//./\\.}\$" <<<"$fresh" || continue
                disable_unit "$name" || continue
                ;;
            /etc/init.d/*)
                grep -q "/rc[2345S]\.d/S[0-9][0-9]${name//./\\.}\$" <<<"$fresh" || continue
                update-rc.d "$name" disable >/dev/null 2>&1 || { say "could not disable $file"; continue; }
                name=$name.service
                ;;
            *) continue ;;
            esac
            [[ " ${off[*]-} " == *" $name "* ]] || off+=("$name")
        done < <(dpkg-query -L "$package")
    done < <(LC_ALL=C comm -13 "$state/installed" <(installed))
    ((${#off[@]} == 0)) || say "not started and not enabled: ${off[*]}"
}

disable_unit() {
    # systemctl needs no running systemd for this; where it is missing, Debian's own tool made the links.
    # That one works only for a package's script, and tells by this variable.
    systemctl disable "$1" >/dev/null 2>&1 ||
        DPKG_MAINTSCRIPT_PACKAGE=knockgate deb-systemd-helper disable "$1" >/dev/null 2>&1 && return
    say "could not disable $1"
    return 1
}

# --- .venv ---------------------------------------------------------------------------------------

stamp() { # FILE...: changes with them, with the interpreter, and with the folder that scripts name
    cd "$here"
    { printf '%s\n' "$here" "$(readlink -f "$python")" && cat "$@"; } | sha256sum
}

is_made() { # STAMP PROGRAM...: .venv has that stamp, and the programs can be run
    local program
    grep -qsxF -e "$1" "$venv/.stamp" || return 1
    for program in "${@:2}"; do
        [[ -x $venv/bin/$program ]] || return 1
    done
}

environment() {
    local pins project pip
    pins="pins $(stamp requirements/dev.txt tools/setup.sh)"
    project="project $(stamp pyproject.toml)"
    ! is_ready || return 0
    exec 8<"$here/pyproject.toml" # two set-ups at once: the second waits, then finds it done
    flock 8
    ! is_ready || return 0

    # Isolated (-I), so that neither PYTHONPATH nor this folder gets in the way. pip's own settings
    # stay the user's, save --user, which makes no sense here.
    pip=("$venv/bin/python" -I -m pip --disable-pip-version-check --no-input -q install --no-user)
    if ! is_made "$pins" python pytest ruff mypy lint-imports; then
        "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            die "/usr/bin/python3 is older than 3.11: Debian 12, Ubuntu 24.04 or later is needed"
        say "making .venv"
        rm -rf "$venv" || die "cannot remove the old .venv; whose is it?"
        "$python" -I -m venv "$venv" || die "/usr/bin/python3 could not make .venv"
        # Wheels only: building from source would fetch build tools that no hash pins.
        "${pip[@]}" --require-hashes --only-binary :all: -r "$here/requirements/dev.txt" ||
            die "pip could not install requirements/dev.txt"
    fi
    printf '%s\n' "$pins" >"$venv/.stamp"
    "${pip[@]}" --no-deps --no-build-isolation --editable "$here" || die "pip could not install the project"
    printf '%s\n' "$project" >>"$venv/.stamp"
    is_ready || die ".venv lacks a program that it should have"
}

is_ready() { is_made "$pins" python pytest ruff mypy lint-imports && is_made "$project" knockdemo knockgate; }

case "${1-} ${2-}" in
"demo " | "test " | "deb ")
    packages "$1"
    environment
    ;;
"packages demo" | "packages test" | "packages deb")
    [[ $(id -u) == 0 ]] || die "packages are installed as root"
    packages "$2"
    ;;
*) die "usage: tools/setup.sh demo|test|deb, or as root: tools/setup.sh packages demo|test|deb" ;;
esac
