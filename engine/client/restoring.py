"""Opening again, on a new connection, what was open on the one before."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import trio

from engine.client.handles import Handle, NotGivenBack
from engine.client.tree import Tree
from engine.errors import HandleLost, SmbError, TransportError

log = logging.getLogger(__name__)

_AT_ONCE: Final = 16
"""Files that are opened again at the same time."""


async def restore_all(tree: Tree) -> bool:
    """Open all files of a tree again that are not open yet; whether that is done.

    It is not where the server kept files and does not give them back: the connection is given up then. If it
    is lost for another reason the next one's turn comes, which nothing here tells.
    """
    connection = tree.connection
    lost = [handle for handle in tree.handles if handle.epoch != tree.epoch]
    not_given_back: list[Handle] = []
    # Samba gives a file back only while it is not open otherwise. An open without a lease would break one
    # that was granted just before, and wait for unwritten data that waits for this very open.
    durable = [handle for handle in lost if handle.is_durable]
    leaseless = [handle for handle in lost if not handle.has_lease]
    for handles in (durable, leaseless, lost):
        if not not_given_back:
            await _restore_each(tree, handles, not_given_back)
    if not_given_back:
        # Samba notes the process of this connection as the one that has the file open before it refuses,
        # and opens by others wait for that process in vain until it is gone.
        connection.abort(TransportError(f"the server does not give {len(not_given_back)} files back"))
    return not not_given_back


async def restore_forgotten(tree: Tree, handle: Handle) -> None:
    """Open a file again that the server has forgotten while the connection lasted."""
    try:
        await _restore_once(tree, handle)
    except NotGivenBack as error:
        # It was closed on the server, which therefore has nothing of it left.
        log.debug("%s", error)
        await _restore_once(tree, handle)


async def _restore_each(tree: Tree, handles: Sequence[Handle], not_given_back: list[Handle]) -> None:
    limit = trio.CapacityLimiter(_AT_ONCE)
    async with trio.open_nursery() as nursery:
        for handle in handles:
            if handle.epoch != tree.epoch:
                nursery.start_soon(_restore, tree, handle, limit, not_given_back)


async def _restore(
    tree: Tree, handle: Handle, limit: trio.CapacityLimiter, not_given_back: list[Handle]
) -> None:
    """Open one file again. If the connection is lost meanwhile, the next one's turn does it, and the same
    with those that are `not_given_back`."""
    async with limit:
        if handle in tree.handles:
            try:
                await _restore_once(tree, handle)
            except NotGivenBack as error:
                log.debug("%s", error)
                not_given_back.append(handle)


async def _restore_once(tree: Tree, handle: Handle) -> None:
    connection = tree.connection
    assert handle.restore is not None
    try:
        await handle.restore()
    except NotGivenBack:
        raise
    except HandleLost as error:
        if handle in tree.handles and not handle.is_forsaken:
            log.warning("%s", error)
        tree.handles.discard(handle)
        handle.give_up(error)
    except SmbError as error:
        connection.abort(TransportError(str(error), errno=error.errno))
    except Exception:
        # Its user is told; the other files, and the link itself, are not to suffer.
        log.exception("opening %s again ended in a mistake of this program", handle.path)
        tree.handles.discard(handle)
        handle.give_up(HandleLost(f"{handle.path} cannot be opened again"))
    else:
        if handle.is_forsaken or handle not in tree.handles:
            tree.handles.discard(handle)
            connection.close_later(handle.file_id, tree.batch)
