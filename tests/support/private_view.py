"""Programs that find files of their own where the machine has its: /run, and the names of hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

# Mounts of other tests are let go: they would outlive their unmounting here.
_ENTER: Final = """
umount --lazy --all --types fuse.smbmount
mount --bind "$1" /run
[ -z "$2" ] || mount --bind "$2" /etc/hosts
shift 2
exec "$@"
"""


def entered(run: Path, hosts: Path | None = None) -> list[str]:
    """What goes before a command that is to have `run` as its /run, and `hosts` as its /etc/hosts.

    Samba's winbindd is found in a folder of /run that no option names, and servers of a domain find each
    other by name.
    """
    return ["unshare", "--mount", "sh", "-uc", _ENTER, "sh", str(run), str(hosts or "")]
