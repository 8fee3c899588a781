"""What became of a change by name whose connection was lost before the answer came.

It is not made again before this was looked up: the second time it could hit another file. `file_id` is the
server's number of the file that was meant, 0 if the caller does not know it; then names alone tell.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from engine.client.stat import FileStat
from engine.errors import DeletePending, NotFound

Look = Callable[[str], Awaitable[FileStat]]
"""`Share.stat`."""


async def was_removed(stat: Look, path: str, file_id: int) -> bool:
    """Whether a deletion was carried out."""
    found = await _find(stat, path)
    return found is None or not _may_be(found, file_id)


async def was_renamed(stat: Look, source: str, target: str, file_id: int) -> bool:
    """Whether a renaming was carried out."""
    found = await _find(stat, source)
    if found is not None and _may_be(found, file_id):
        return False
    moved = await _find(stat, target)
    return moved is not None and _may_be(moved, file_id)


async def was_linked(stat: Look, existing: str, new: str) -> bool:
    """Whether a hard link was made."""
    found, file = await _find(stat, new), await _find(stat, existing)
    return found is not None and file is not None and found.file_id != 0 and found.file_id == file.file_id


async def _find(stat: Look, path: str) -> FileStat | None:
    try:
        return await stat(path)
    except (NotFound, DeletePending):
        return None


def _may_be(stat: FileStat, file_id: int) -> bool:
    return not file_id or not stat.file_id or stat.file_id == file_id
