"""A throw-away server like `SambaServer` that is a newer Samba: 4.22 of Debian 12's backports.

`scripts/test` unpacks it into a cache folder, with a small Debian around it. Only root can run it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.support.samba import SambaServer
from tests.support.server import HarnessError

_OPTIONS: Final[Mapping[str, str]] = {"smb3 directory leases": "yes", "smb3 unix extensions": "yes"}

# `unshare --mount sh -euc SCRIPT sh TREE FOLDER… -- PROGRAM ARGUMENT…` becomes PROGRAM, which sees the tree's
# programs and configuration, the host's accounts, and each FOLDER where the host has it. The namespace keeps
# none of the host's mounts: one that is taken away while the server runs has to be gone.
_ENTER: Final = """
PATH=/usr/sbin:/usr/bin
tree=$1
root=$tree/mnt
shift
mount -t tmpfs -o mode=755 tmpfs "$root"
cp -a "$tree"/bin "$tree"/sbin "$tree"/lib* "$root"
cd "$root"
mkdir -p usr etc proc dev run var/log/samba old
mkdir -m 1777 tmp
mount -o bind,ro "$tree/usr" usr
mount -o bind,ro "$tree/etc" etc
for file in passwd group hosts; do mount -o bind,ro "/etc/$file" "etc/$file"; done
for folder in /proc /dev; do mount --bind "$folder" "$root$folder"; done
while [ "$1" != -- ]; do
    mkdir -p "$root$1"
    mount --bind "$1" "$root$1"
    shift
done
shift
pivot_root . old
umount --lazy /old
exec "$@"
"""


class BackportsSambaServer(SambaServer):
    """Samba 4.22, offering leases of directories and the POSIX extensions of SMB 3.1.1.

    Each of its programs runs in a mount namespace of its own, which ends with it, and all its mounts too.
    What is mounted below a share's folder does not show there, nor what is mounted after the start.
    """

    def _program(self, name: str) -> list[str]:
        shares = (str(path) for path in self._share_paths.values() if not path.is_relative_to(self.base))
        enter = ["unshare", "--mount", "sh", "-euc", _ENTER, "sh", str(_tree())]
        return [*enter, *shares, str(self.base), "--", name]

    def _default_global_options(self) -> dict[str, str]:
        return {**super()._default_global_options(), **_OPTIONS}


def _tree() -> Path:
    """The small Debian with this Samba in it."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    tree = Path(cache, "smbmount-tests", "samba-backports")
    if not tree.is_dir():
        raise HarnessError(f"the newer Samba is not in {tree}: run scripts/test as root")
    return tree
