"""Folders on the move: while one is being renamed by us, nobody uses a path that leads through it.

A path is made from the names that we know, so one that is under way while the server renames a folder in
it finds nothing, or what has come to that place since. Operations that use paths say so here: the ones
below a folder that is being renamed wait until that is decided, and the rename waits until those that were
before it are done.

To ask again where a path was not found would be simpler, but not sound: a request that is late, on the server
or after a break of a lease, could then change or remove what stands at the old path by now.

Order of waiting: a rename's turn, then the operations under way. These wait for no rename, and for no other
task that may, so nothing waits in a circle. One that is stuck for longer than `PATIENCE` is not waited for.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import trio
import trio.lowlevel

from smbmount.vfs.inodes import Inode, InodeTable
from smbmount.vfs.signals import Signal

PATIENCE: Final = 5.0
"""Seconds that the renaming of a folder waits for what is under way below it: an open may wait for another
client for half a minute. Such a one may then be told that there is no such file."""

P = ParamSpec("P")
R = TypeVar("R")
Place = TypeVar("Place", int, Inode)


class Moves:
    """The folder that is being renamed, if any, and the inodes whose paths are in use, by task.

    Invariant: `_users` has an entry just for the tasks inside `using`.
    """

    def __init__(self) -> None:
        self._moving: Inode | None = None
        self._decided = trio.Event()
        self._turn = trio.Lock()
        self._users: dict[trio.lowlevel.Task, list[Inode]] = {}
        self._left = Signal()

    def using(self, *inodes: Inode) -> _Use:
        """Around the use of the paths of these inodes, or of names in them: they do not change inside, but
        for what `PATIENCE` says."""
        return _Use(self, inodes)

    @asynccontextmanager
    async def moving(self, folder: Inode) -> AsyncIterator[None]:
        """Around the renaming of a folder, of which there is one at a time."""
        async with self._turn:
            # Those who waited for the last one come first.
            await trio.lowlevel.checkpoint()
            self._moving = folder
            self._decided = trio.Event()
            try:
                with trio.move_on_after(PATIENCE):
                    await self._left.wait_until(lambda: not any(map(self._concerns, self._users.values())))
                yield
            finally:
                self._moving = None
                self._decided.set()

    async def enter(self, inodes: tuple[Inode, ...]) -> None:
        """The current task uses the paths of these inodes from now on."""
        task = trio.lowlevel.current_task()
        held = self._users.get(task)
        if held is None:
            while self._concerns(inodes):
                await self._decided.wait()
            held = self._users[task] = []
        held += inodes

    def leave(self, count: int) -> None:
        """The current task uses the last `count` of its paths no longer."""
        task = trio.lowlevel.current_task()
        held = self._users[task]
        del held[len(held) - count :]
        if not held:
            del self._users[task]
            if self._moving is not None:
                self._left.fire()

    def _concerns(self, inodes: list[Inode] | tuple[Inode, ...]) -> bool:
        moving = self._moving
        return moving is not None and any(moving in inode.ancestors() for inode in inodes)


class _Use:
    """By hand what `asynccontextmanager` does: it would cost more than all else here, at every request."""

    __slots__ = ("_inodes", "_moves")

    def __init__(self, moves: Moves, inodes: tuple[Inode, ...]) -> None:
        self._moves = moves
        self._inodes = inodes

    async def __aenter__(self) -> None:
        await self._moves.enter(self._inodes)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._moves.leave(len(self._inodes))


class HasMoves(Protocol):
    """What a mount's parts share; `Core`."""

    @property
    def inodes(self) -> InodeTable:
        """All inodes that are known."""

    @property
    def moves(self) -> Moves:
        """The mount's."""


class Part(Protocol):
    """A part of the file system."""

    @property
    def _core(self) -> HasMoves: ...


Owner = TypeVar("Owner", bound=Part)


def uses_path(
    operation: Callable[Concatenate[Owner, Place, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Owner, Place, P], Coroutine[Any, Any, R]]:
    """Wrap an operation that uses the path of its first argument, an inode or its number, or names in it."""

    @functools.wraps(operation)
    async def wrapper(owner: Owner, place: Place, /, *args: P.args, **kwargs: P.kwargs) -> R:
        core = owner._core
        named: int | Inode = place
        async with core.moves.using(core.inodes[named] if isinstance(named, int) else named):
            return await operation(owner, place, *args, **kwargs)

    return wrapper
