"""mount(8) finds smbmount and hands it what fstab says; umount(8) ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.mounting import CHECKOUT
from tests.support.samba import SambaServer

# mount(8) looks for programs in its own list of folders only, so a name in /usr/local/sbin is needed. It
# stands on a file system in memory, in a mount namespace that ends with this script.
_SCRIPT: Final = """
mount -t tmpfs none /usr/local/sbin
cat > /usr/local/sbin/smbmount
chmod +x /usr/local/sbin/smbmount
printf '%s %s fuse.smbmount %s 0 0\\n' "$SOURCE" "$MOUNTPOINT" "$OPTIONS" > "$FSTAB"
mount --fstab "$FSTAB" "$MOUNTPOINT"
findmnt --noheadings --output SOURCE,FSTYPE,OPTIONS "$MOUNTPOINT"
echo written > "$MOUNTPOINT/file"
umount "$MOUNTPOINT"
"""


def test_a_line_of_fstab(samba: SambaServer, share_path: Path, tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    options = f"port={samba.port},credentials={samba.credentials_file},_netdev,nofail,x-systemd.automount"
    done = subprocess.run(
        [*namespace, "bash", "-euc", _SCRIPT],
        input=f'#!/bin/sh\nexport PYTHONPATH={CHECKOUT}\nexec {sys.executable} -m smbmount "$@"\n',
        env={
            **os.environ,
            "SOURCE": f"{samba.unc()}/{share_path.name}",
            "MOUNTPOINT": str(mountpoint),
            "OPTIONS": options,
            "FSTAB": str(tmp_path / "fstab"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    source, kind, flags = done.stdout.split()
    assert (source, kind) == (f"{samba.unc()}/{share_path.name}", "fuse.smbmount")
    assert {"nosuid", "nodev"} <= set(flags.split(","))
    assert samba.credentials_file.name not in flags
    assert (share_path / "file").read_text() == "written\n"
