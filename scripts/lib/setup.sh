# Sourced by scripts/test and scripts/demo: makes a bare Debian 12 ready for them, and a ready one at once.
# shellcheck shell=bash
#
# set_up base    what smbmount and its unit tests need
# set_up full    also a Samba server, FUSE's tools and the programs that the mount tests drive
#
# set_up_samba_backports    as root: the newer Samba of the tests, in a cache folder

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
VENV="$CHECKOUT/.venv"
PATH="$PATH:/usr/sbin:/sbin"
SAMBA_BACKPORTS=${XDG_CACHE_HOME:-~/.cache}/smbmount-tests/samba-backports
export CHECKOUT VENV PATH

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

# Whether there is a file of that name, which may have a pattern in it.
has_file() {
    compgen -G "$1" >/dev/null
}

# Prints the names of the Debian packages that have what is missing, one a line.
missing_packages() {
    local pair commands=(systemd-analyze:systemd groff:groff-base git:git)
    if [ "$1" = full ]; then
        commands+=(
            smbd:samba smbclient:smbclient fusermount3:fuse3
            sqlite3:sqlite3 rsync:rsync fio:fio getfattr:attr
            samba-tool:samba-common-bin winbindd:winbind kinit:krb5-user faketime:faketime
        )
        # What a domain controller is made of has no commands of its own.
        has_file /usr/share/samba/setup/provision.ldif || echo samba-ad-provision
        has_file '/usr/lib/*/samba/ldb/samba_dsdb.so' || echo samba-dsdb-modules
        has_file '/usr/lib/*/samba/vfs/acl_xattr.so' || echo samba-vfs-modules
    fi
    # pyfuse3 and gssapi come as source, so the first run needs a compiler and headers.
    if ! python_is_set_up; then
        commands+=(python3:python3 gcc:gcc pkg-config:pkg-config)
        pkg-config --exists fuse3 2>/dev/null || echo libfuse3-dev
        pkg-config --exists krb5-gssapi 2>/dev/null || echo libkrb5-dev
        python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
        python3 -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null || echo python3-dev
    fi
    for pair in "${commands[@]}"; do
        command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"
    done
}

# What the virtual environment was made for: these dependencies, in this place.
python_wanted() {
    sha256sum "$CHECKOUT/pyproject.toml"
}

python_is_set_up() {
    [ -x "$VENV/bin/python" ] && [ "$(cat "$VENV/set-up-for" 2>/dev/null)" = "$(python_wanted)" ]
}

install_packages() {
    local as_root=()
    command -v apt-get >/dev/null || fail "these Debian packages are missing and there is no apt-get: $*"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "run this once as root, to install these Debian packages: $*"
        as_root=(sudo)
    fi
    printf 'installing %s\n' "$*"
    "${as_root[@]}" apt-get -qq update || fail "apt-get update failed; is the network there?"
    # A machine that has just started may be busy with its own upgrades, hence the wait for the lock.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes \
        apt-get -qq -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@" >/dev/null ||
        fail "apt-get could not install: $*"
}

set_up_python() {
    if python_is_set_up; then
        return
    fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or newer is needed; $(python3 --version 2>&1) is the first in PATH"
    printf 'installing the Python packages into %s\n' "$VENV"
    rm -rf "$VENV"
    python3 -m venv "$VENV" || fail "could not make a virtual environment at $VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable "${CHECKOUT}[dev]" ||
        fail "pip could not install smbmount and what it needs"
    python_wanted >"$VENV/set-up-for"
}

# As pip does for whoever installs it: otherwise, where Python may not write its own, each mount of the tests
# begins with compiling itself, which costs it 0.3 s and 1.5 MiB for good.
compile_ahead() {
    "$VENV/bin/python" -m compileall -q "$CHECKOUT/engine" "$CHECKOUT/smbmount"
}

set_up() {
    local packages
    mapfile -t packages < <(missing_packages "$1" | sort -u)
    if [ "${#packages[@]}" -gt 0 ]; then
        install_packages "${packages[@]}"
    fi
    if [ "$1" = full ] && [ ! -e /dev/fuse ]; then
        fail "/dev/fuse is missing: load the kernel module with 'modprobe fuse', or give the container this device"
    fi
    set_up_python
    compile_ahead
}

# What the tree was built by.
samba_backports_wanted() {
    sha256sum <"$CHECKOUT/scripts/lib/samba_backports.sh"
}

samba_backports_is_set_up() {
    [ "$(cat "$SAMBA_BACKPORTS/set-up-for" 2>/dev/null)" = "$(samba_backports_wanted)" ]
}

set_up_samba_backports() {
    if [ "$(id -u)" -ne 0 ] || samba_backports_is_set_up; then
        return
    fi
    command -v debootstrap >/dev/null || install_packages debootstrap
    mkdir -p "${SAMBA_BACKPORTS%/*}"
    (
        flock 9
        # Another run may have built it while this one waited.
        samba_backports_is_set_up || build_samba_backports
    ) 9<"${SAMBA_BACKPORTS%/*}"
}

# Only whoever has the lock comes here, so other folders than the finished one are left from interrupted builds.
build_samba_backports() {
    local new="$SAMBA_BACKPORTS.new" old="$SAMBA_BACKPORTS.old" log="$SAMBA_BACKPORTS.log"
    printf 'building a newer Samba for the tests in %s\n' "$SAMBA_BACKPORTS"
    rm -rf "$new" "$old"
    unshare --mount bash "$CHECKOUT/scripts/lib/samba_backports.sh" "$new" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        rm -rf "$new"
        fail "could not build it; all that was said is in $log"
    }
    samba_backports_wanted >"$new/set-up-for"
    [ ! -e "$SAMBA_BACKPORTS" ] || mv -T "$SAMBA_BACKPORTS" "$old"
    mv -T "$new" "$SAMBA_BACKPORTS"
    rm -rf "$old" "$log"
}
