"""Programs that find files of their own where the machine has its: /run, and the names of hosts."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# Mounts of other tests are let go: they would outlive their unmounting here. No name service is asked for
# what the hosts file does not have.
_ENTER: Final = """
umount --lazy --all --types fuse.smbmount
mount --bind "$1/run" /run
mount --bind "$1/hosts" /etc/hosts
[ ! -e /etc/resolv.conf ] || mount --bind /dev/null "$(realpath /etc/resolv.conf)"
shift
exec "$@"
"""


def prepare_view(base: Path, address: str, hosts: Mapping[str, str]) -> None:
    """Make the files of `entered`: this machine is at `address`, others where `hosts` says by their names."""
    (base / "run/samba").mkdir(parents=True)
    (base / "run/lock").mkdir()
    own = " ".join([*(name for name, there in hosts.items() if there == address), socket.gethostname()])
    others = [f"{there} {name} {name.partition('.')[0]}" for name, there in hosts.items() if there != address]
    (base / "hosts").write_text("\n".join(["127.0.0.1 localhost", f"{address} {own}", *others, ""]))


def entered(base: Path) -> list[str]:
    """What goes before a command that is to see the files of `prepare_view` in the folder `base`.

    Samba's winbindd is found in a folder of /run that no option names; servers of a domain find each other by
    name, and themselves by this machine's.
    """
    return ["unshare", "--mount", "sh", "-uc", _ENTER, "sh", str(base)]
