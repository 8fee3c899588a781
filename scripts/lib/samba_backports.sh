# Builds a small Debian 12 with the Samba of its backports: a second, newer server for the tests.
# shellcheck shell=bash
#
#   unshare --mount bash scripts/lib/samba_backports.sh FOLDER
#
# FOLDER is new. As root, and in a mount namespace, because what debootstrap mounts has to end with it.
set -euo pipefail
umask 022
tree=$1

# The mirror that apt uses already is the one that can be reached.
apt-get -qq update
read -r mirror < <(
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 'Codename: bookworm'
) || {
    echo "apt knows no mirror of Debian 12 (bookworm)" >&2
    exit 1
}

# debootstrap fetches with wget, which knows apt's proxies only by these variables.
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
[ -z "${http_proxy-}" ] || export http_proxy
[ -z "${https_proxy-}" ] || export https_proxy
debootstrap --variant=minbase bookworm "$tree" "$mirror"

echo "deb $mirror bookworm-backports main" >"$tree/etc/apt/sources.list.d/backports.list"
# How the mirror is reached, by the host's apt: its proxies, names and certificates.
apt-config dump | grep '^Acquire::' | grep -v '^Acquire::IndexTargets' >"$tree/etc/apt/apt.conf.d/99host"
cp /etc/hosts "$tree/etc/hosts"
if [ -d /etc/ssl/certs ]; then
    mkdir -p "$tree/etc/ssl/certs"
    mount --bind /etc/ssl/certs "$tree/etc/ssl/certs"
fi

echo force-unsafe-io >"$tree/etc/dpkg/dpkg.cfg.d/unsafe-io"
printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d" # no service is started in there
chmod +x "$tree/usr/sbin/policy-rc.d"
chroot "$tree" apt-get -qq update
chroot "$tree" env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes \
    apt-get -qq -y --no-install-recommends -t bookworm-backports install samba samba-vfs-modules

# Without the backports apt would have taken Debian 12's own.
version=$(chroot "$tree" dpkg-query -W -f '${Version}' samba)
dpkg --compare-versions "$version" ge 2:4.22 || {
    echo "the mirror's backports have no Samba 4.22; apt took $version" >&2
    exit 1
}

rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/*
# The first may hold a proxy's password; without the second, names are looked up in the hosts file alone.
rm -f "$tree/etc/apt/apt.conf.d/99host" "$tree/etc/resolv.conf"
