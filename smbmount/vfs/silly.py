"""Removing and replacing files that are open: the name is freed at once, the file lives on.

SMB frees the name of a deleted file only when its last handle closes, and does not rename over an open
file. So the file is renamed aside first, as NFS clients do ("silly rename"); the server deletes it
when the last handle closes, even if this program is killed.
"""

from __future__ import annotations

import logging
import re
import secrets
from typing import Final

import trio

from engine import CannotDelete, Lease, NotFound, SmbError
from smbmount.vfs.attributes import is_readonly
from smbmount.vfs.core import Core
from smbmount.vfs.inodes import Inode
from smbmount.vfs.names import join

log = logging.getLogger(__name__)

_PREFIX: Final = ".smbmount-"
_MOVE_BACK_TIMEOUT: Final = 10.0
"""Seconds for putting a file back when its replacement failed: also while the mount is being ended."""

is_silly = re.compile(rf"{re.escape(_PREFIX)}[0-9a-f]{{24}}", re.ASCII).fullmatch
"""Whether a name of the server is one of these files."""


def silly_path(folder: str) -> str:
    """A path in `folder` that nothing else uses."""
    return join(folder, _PREFIX + secrets.token_hex(12))


async def remove_file(core: Core, parent: Inode, smb_name: str, inode: Inode | None) -> None:
    """Delete a file on the server, read-only or not; moved aside if this mount has it open."""
    path = core.inodes.child_path(parent, smb_name)
    readonly = inode is not None and is_readonly(inode.stat.attributes)
    if inode is not None:
        core.idle.close(inode)
    lease = core.leases.for_change(parent, inode)
    if inode is None or not inode.handles:
        await _delete(core, path, readonly, lease)
        return
    aside = silly_path(core.inodes.path(parent))
    try:
        await core.share.unlink(path, aside=aside, clear_readonly=readonly, lease=lease)
    except CannotDelete:
        try:
            await core.share.unlink(aside, clear_readonly=True, lease=lease)
        except NotFound:
            await core.share.unlink(path, aside=aside, clear_readonly=True, lease=lease)
        except BaseException:
            await _move_back(core, aside, path)
            raise


async def _delete(core: Core, path: str, readonly: bool, lease: Lease | None) -> None:
    try:
        await core.share.unlink(path, clear_readonly=readonly, lease=lease)
    except CannotDelete:
        if readonly:
            raise
        await core.share.unlink(path, clear_readonly=True, lease=lease)


async def replace_file(
    core: Core, source: str, folder: str, target: str, *, lease: Lease | None, replaced: Inode | None
) -> None:
    """Rename `source` to `target` in `folder` where the server would not replace the file that is there.
    `lease` is that of `source`.

    The old file is moved aside, and back if the rename fails, so that `target` is never lost.
    """
    aside = silly_path(folder)
    try:
        await core.share.rename(target, aside, replace=False, lease=replaced.lease if replaced else None)
        await core.share.rename(source, target, replace=False, lease=lease)
    except BaseException:
        await _move_back(core, aside, target)
        raise
    try:
        readonly = replaced is not None and is_readonly(replaced.stat.attributes)
        await _delete(core, aside, readonly, replaced.lease if replaced else None)
    except SmbError as exc:
        log.warning("%s was replaced, but the old file remains as %s: %s", target, aside, exc)


async def _move_back(core: Core, aside: str, path: str) -> None:
    """Undo a move aside, whether or not it is known to have happened: the file would stay hidden."""
    with trio.move_on_after(_MOVE_BACK_TIMEOUT, shield=True):
        try:
            await core.share.rename(aside, path, replace=False)
        except NotFound:
            log.debug("%s was not moved aside", path)
        except SmbError as exc:
            log.error("%s was moved aside, and remains as %s: %s", path, aside, exc)
