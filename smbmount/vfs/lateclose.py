"""Closing the files that were written: at once, or a moment later so that what is set next goes along.

A server sets the time of writing with the close, and programs that copy files (`cp -p`, `rsync`, Python's
`shutil`) set times and mode right behind it. So the handle of a written file is kept for a moment after its
last close(2), and that change and the CLOSE share a round trip, which also tells the final attributes. All
data is on the server by then; who needs the final attributes has the file closed, and waits for them. It is
kept only under an exclusive lease: whoever opens the file elsewhere is let in as soon as the CLOSE is there.

Nobody waits for the times of a file that was made here, whose handle may set them, once the server has taken
those of another new file in the folder: the request leaves before the program is answered. If the connection
is lost before the server answers they are set once more, by the name. Should they be refused after all, that
is logged, told to who has the file open, else at the end of the mount.

Invariants: an inode has at most one handle here, and `inode.late` is it; its event stays in `inode.closing`
until the server has answered the CLOSE. `_kept` is ordered by `due`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from engine import FileAttributes, FileStat, SmbError, TransportError
from smbmount.vfs.attributes import DIRECTORY
from smbmount.vfs.remote import RemoteFile

if TYPE_CHECKING:
    from smbmount.vfs.inodes import Inode, InodeTable

log = logging.getLogger(__name__)

KEPT_SECONDS: Final = 0.25
"""As long as unfinished data is kept back: a program that sets times does it in far less, and who looks from
elsewhere sees the final times within the second for which they would be believed anyway."""

_TOGETHER: Final = 0.1
"""Those that are due within this time go together: waking for each costs a tenth of making a file."""

MAX_KEPT: Final = 64
"""Handles kept at once; beyond that the one that has waited longest goes. As many answers are outstanding at
most that nobody waits for."""


class Experience:
    """Whether the server took the times of new files, as last seen: in a folder and in those made in it here,
    whose files have the same owner and lie on the same disk."""

    __slots__ = ("takes_times",)

    def __init__(self) -> None:
        self.takes_times = False


class LateClose:
    """The handle of a written file that no program has open any more. `closed` is set once the server has
    answered its CLOSE; `error` is why times were not set, `is_promised` says that nobody waits for that."""

    __slots__ = ("_owner", "closed", "due", "error", "file", "inode", "is_promised")

    def __init__(
        self, owner: LateCloses, inode: Inode, file: RemoteFile, closed: trio.Event, due: float
    ) -> None:
        self._owner = owner
        self.inode = inode
        self.file = file
        self.closed = closed
        self.due = due
        self.error: SmbError | None = None
        self.is_promised = False

    def begin(self) -> None:
        """Send the CLOSE, without waiting for its answer."""
        self._owner.begin(self)


SetAgain = Callable[["Inode", int | None, int | None], Awaitable[None]]
"""Sets the times of a file by its name; raises the engine's and the system's errors."""


class LateCloses:
    """All written files of a mount whose close is due; none is kept longer than `seconds`.

    `time_to_live` is that of a file's attributes.
    """

    def __init__(
        self,
        spawn: Callable[..., object],
        inodes: InodeTable,
        *,
        time_to_live: float,
        seconds: float,
        limit: int = MAX_KEPT,
    ) -> None:
        self._spawn = spawn
        self._inodes = inodes
        self._time_to_live = time_to_live
        self._seconds = min(seconds, KEPT_SECONDS)
        self._limit = limit
        self._kept: dict[LateClose, None] = {}
        self._unanswered: dict[LateClose, None] = {}
        self._untold: SmbError | OSError | None = None
        self.set_again: SetAgain | None = None
        self._reaping = False

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, inode: Inode, file: RemoteFile, closed: trio.Event) -> None:
        """Take over the handle of a file that wrote; `closed`, which is in `inode.closing`, will be set."""
        now = trio.current_time()
        late = LateClose(self, inode, file, closed, now + self._seconds)
        if not self._may_wait(inode):
            self._close(late)
            return
        while len(self._kept) >= self._limit:
            self.begin(next(iter(self._kept)))
        self._kept[late] = None
        inode.late = late
        if not self._reaping:
            self._reaping = True
            self._spawn(self._reap)

    def _may_wait(self, inode: Inode) -> bool:
        if self._seconds <= 0 or inode.unlinked or not inode.names or inode.handles or inode.late is not None:
            return False
        return inode.is_exclusive

    async def set_basic(
        self,
        late: LateClose,
        *,
        access_ns: int | None,
        write_ns: int | None,
        attributes: FileAttributes | None,
    ) -> None:
        """Set times and DOS attributes through a handle that is kept, and close it: one round trip. Raises
        what the server says to the change; the file is closed then, too."""
        inode = late.inode
        self._remove(late)
        asked_at, stat = trio.current_time(), None
        details = not inode.knows_details(asked_at)
        try:
            stat = await late.file.set_basic_and_close(
                access_ns=access_ns, write_ns=write_ns, attributes=attributes, details=details
            )
            self._inodes.touch(inode)
            if write_ns is not None and not late.file.existed:
                experience_in(inode).takes_times = True
        finally:
            self._closed(late, self._inodes.tick, asked_at, stat)

    def set_times(self, late: LateClose, *, access_ns: int | None, write_ns: int | None) -> bool:
        """The same for times alone, without waiting for the server; False, and nothing was done, if its
        answer has to be waited for. Raises `TransportError` if the connection is lost already."""
        inode = late.inode
        # What is not ours may refuse them although its handle may set them: POSIX wants its owner.
        is_sure = not late.file.existed and experience_in(inode).takes_times and late.file.is_here
        if not is_sure or len(self._unanswered) >= self._limit:
            return False
        self._remove(late)
        self._inodes.touch(inode)
        if access_ns is not None:
            inode.stat.access_ns = access_ns
        if write_ns is not None:
            inode.stat.write_ns = write_ns
        # The server tells with its answer when the change was made.
        inode.stale = True
        self._unanswered[late] = None
        asked_at = trio.current_time()
        on_told = partial(self._answered, late, access_ns, write_ns, self._inodes.tick, asked_at)
        details = not inode.knows_details(asked_at)
        late.file.set_times_and_close(on_told, access_ns=access_ns, write_ns=write_ns, details=details)
        if late.error is not None:
            raise late.error
        late.is_promised = True
        return True

    def _answered(
        self,
        late: LateClose,
        access_ns: int | None,
        write_ns: int | None,
        asked: int,
        asked_at: float,
        stat: FileStat | None,
        error: SmbError | None,
    ) -> None:
        late.error = error
        if isinstance(error, TransportError) and late.is_promised and self.set_again is not None:
            self._spawn(self._repeat, late, self.set_again, access_ns, write_ns)
            return
        if error is not None and late.is_promised:
            self._tell(late.inode, error)
        self._settled(late, asked, asked_at, stat if error is None else None)

    async def _repeat(
        self, late: LateClose, set_again: SetAgain, access_ns: int | None, write_ns: int | None
    ) -> None:
        """The connection was lost before the server answered. Where it is brought back the times can be set:
        that it may have done so already does no harm."""
        try:
            await set_again(late.inode, access_ns, write_ns)
        except (SmbError, OSError) as error:
            self._tell(late.inode, error)
        except Exception:
            log.exception("setting times again ended in a mistake of this program")
        finally:
            self._settled(late, self._inodes.tick, trio.current_time(), None)

    def _settled(self, late: LateClose, asked: int, asked_at: float, stat: FileStat | None) -> None:
        del self._unanswered[late]
        self._closed(late, asked, asked_at, stat)

    def _tell(self, inode: Inode, error: SmbError | OSError) -> None:
        log.error("the times of %r are not those that were set: %s", inode, error)
        experience_in(inode).takes_times = False
        for handle in inode.handles:
            handle.fail(error)
        if not inode.handles:
            self._untold = self._untold or error

    async def finish(self) -> SmbError | OSError | None:
        """Wait until no answer is outstanding; the first error that no open file was told of."""
        for late in tuple(self._unanswered):
            await late.closed.wait()
        return self._untold

    def begin(self, late: LateClose) -> None:
        """Send the CLOSE, without waiting for its answer."""
        self._remove(late)
        self._close(late)

    def close(self, inode: Inode) -> None:
        """Close what is kept of an inode, without waiting for the server."""
        if inode.late is not None:
            self.begin(inode.late)

    def close_below(self, folder: Inode) -> None:
        """Close what is kept in a folder and below."""
        for late in tuple(self._kept):
            if folder in late.inode.ancestors():
                self.begin(late)

    def close_all(self) -> None:
        """Close everything, without waiting for the server."""
        for late in tuple(self._kept):
            self.begin(late)

    def _remove(self, late: LateClose) -> None:
        del self._kept[late]
        late.inode.late = None

    def _close(self, late: LateClose) -> None:
        asked, asked_at = self._inodes.tick, trio.current_time()
        on_told = partial(self._closed, late, asked, asked_at)
        late.file.close_and_tell(on_told, details=not late.inode.knows_details(asked_at))

    def _closed(self, late: LateClose, asked: int, asked_at: float, stat: FileStat | None) -> None:
        inode = late.inode
        if stat is None:
            # It may have been closed, and dated, before the connection was lost.
            inode.expire()
            inode.stale = True
        else:
            inode.update(stat, asked, asked_at + self._time_to_live)
        inode.closing = tuple(event for event in inode.closing if event is not late.closed)
        late.closed.set()
        self._inodes.discard_if_unused(inode)

    async def _reap(self) -> None:
        try:
            while self._kept:
                await trio.sleep_until(next(iter(self._kept)).due)
                soon = trio.current_time() + min(self._seconds, _TOGETHER)
                while self._kept and next(iter(self._kept)).due <= soon:
                    self.begin(next(iter(self._kept)))
        finally:
            self._reaping = False


def experience_in(inode: Inode) -> Experience:
    """That of a folder, or of the folder that a file is in; one that remembers nothing if there is none."""
    folder = inode.names[-1].parent if inode.kind != DIRECTORY and inode.names else inode
    if folder.experience is None:
        folder.experience = Experience()
    return folder.experience
