"""Removing and replacing files that are open: the name is freed at once, the file lives on.

SMB frees the name of a deleted file only when its last handle closes, and does not rename over an open
file. So the file is renamed aside first, as NFS clients do ("silly rename"); the server deletes it
when the last handle closes, even if this program is killed.
"""

from __future__ import annotations

import logging
import re
import secrets
from typing import Final, NamedTuple

import trio

from engine import CannotDelete, Lease, NotFound, SmbError
from smbmount.vfs.attributes import is_readonly
from smbmount.vfs.core import Core
from smbmount.vfs.inodes import Inode

log = logging.getLogger(__name__)

_PREFIX: Final = ".smbmount-"
_MOVE_BACK_TIMEOUT: Final = 10.0
"""Seconds for putting a file back when its replacement failed: also while the mount is being ended."""

is_silly = re.compile(rf"{re.escape(_PREFIX)}[0-9a-f]{{24}}", re.ASCII).fullmatch
"""Whether a name of the server is one of these files."""


class Place(NamedTuple):
    """A name in a folder. Its path is made at each use: the folder may have been renamed since the last."""

    folder: Inode
    smb_name: str


def silly_name() -> str:
    """A name that nothing else uses."""
    return _PREFIX + secrets.token_hex(12)


async def remove_file(core: Core, parent: Inode, smb_name: str, inode: Inode | None) -> None:
    """Delete a file on the server, read-only or not; moved aside if this mount has it open."""
    path = core.inodes.child_path
    readonly = inode is not None and is_readonly(inode.stat.attributes)
    if inode is not None:
        core.idle.close(inode)
    lease = core.leases.for_change(parent, inode)
    if inode is None or not inode.handles:
        await _delete(core, parent, smb_name, readonly, lease, inode)
        return
    aside, unlink = silly_name(), core.share.unlink

    async def move_and_unlink(clear_readonly: bool) -> None:
        source, target = path(parent, smb_name), path(parent, aside)
        file_id = inode.file_id
        await unlink(source, aside=target, clear_readonly=clear_readonly, lease=lease, file_id=file_id)

    try:
        await move_and_unlink(readonly)
    except CannotDelete:
        try:
            await unlink(path(parent, aside), clear_readonly=True, lease=lease)
        except NotFound:
            await move_and_unlink(True)
        except BaseException:
            await _move_back(core, parent, aside, smb_name)
            raise


async def _delete(
    core: Core, parent: Inode, smb_name: str, readonly: bool, lease: Lease | None, inode: Inode | None
) -> None:
    path, unlink, file_id = core.inodes.child_path, core.share.unlink, inode.file_id if inode else 0
    try:
        await unlink(path(parent, smb_name), clear_readonly=readonly, lease=lease, file_id=file_id)
    except CannotDelete:
        if readonly:
            raise
        await unlink(path(parent, smb_name), clear_readonly=True, lease=lease, file_id=file_id)


async def replace_file(
    core: Core, source: Place, target: Place, *, lease: Lease | None, replaced: Inode | None
) -> None:
    """Rename `source` to `target` where the server would not replace the file that is there. `lease` is that
    of `source`.

    The old file is moved aside, and back if the rename fails, so that `target` is never lost. A folder
    that another client has made there stays: `IsADirectory`.
    """
    rename, path = core.share.rename, core.inodes.child_path
    aside, old_lease = Place(target.folder, silly_name()), core.leases.for_change(target.folder, replaced)
    try:
        await rename(path(*target), path(*aside), replace=False, only_file=True, lease=old_lease)
        await rename(path(*source), path(*target), replace=False, lease=lease)
    except BaseException:
        await _move_back(core, *aside, target.smb_name)
        raise
    readonly = replaced is not None and is_readonly(replaced.stat.attributes)
    try:
        await _delete(core, *aside, readonly, old_lease, replaced)
    except SmbError as exc:
        names = target.smb_name, aside.smb_name
        log.warning("%s was replaced, but the old file remains as %s: %s", *names, exc)


async def _move_back(core: Core, parent: Inode, aside: str, smb_name: str) -> None:
    """Undo a move aside, whether or not it is known to have happened: the file would stay hidden."""
    path = core.inodes.child_path
    with trio.move_on_after(_MOVE_BACK_TIMEOUT, shield=True):
        try:
            await core.share.rename(path(parent, aside), path(parent, smb_name), replace=False)
        except NotFound:
            log.debug("%s was not moved aside", smb_name)
        except SmbError as exc:
            log.error("%s was moved aside, and remains as %s: %s", smb_name, aside, exc)
