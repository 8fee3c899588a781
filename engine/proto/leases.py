"""Leases and oplocks: what the server vouches for, and the breaks that take it back.

[MS-SMB2] 3.2.4.3.8, 3.2.5.7 and 3.2.5.19. Everything happens in the step in which a reply or a break
arrives, or a CLOSE leaves, so that a state is never believed for longer than it holds. In doubt (replies
out of order, servers that do not count epochs) the lower state wins: that costs speed and nothing else.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from engine.errors import RemoteProtocolError
from engine.proto.inflight import Request
from engine.proto.lease_grants import GrantContext, LeaseKind, only_grant_untrusted
from engine.wire import create_contexts
from engine.wire.constants import LeaseBreakFlags, LeaseFlags, LeaseState, OplockLevel
from engine.wire.create import CreateResponse
from engine.wire.create_contexts import CreateContext, LeaseV2
from engine.wire.notify import LeaseBreakAcknowledgement, LeaseBreakNotification, OplockBreak
from engine.wire.primitives import FileId

log = logging.getLogger(__name__)

_READ: Final = int(LeaseState.READ_CACHING)
_WRITE: Final = int(LeaseState.WRITE_CACHING)
_HANDLE: Final = int(LeaseState.HANDLE_CACHING)
_ALL: Final = _READ | _WRITE | _HANDLE
_LETTERS: Final = (("R", _READ), ("W", _WRITE), ("H", _HANDLE))
_FOLDER: Final = _READ | _HANDLE
"""All that there is for a folder ([MS-SMB2] 3.3.5.9.11)."""

_NO_OPLOCK: Final = int(OplockLevel.NONE)
_LEVEL_II: Final = int(OplockLevel.II)
_BATCH: Final = int(OplockLevel.BATCH)
_LEASED: Final = int(OplockLevel.LEASE)
_BREAK_IN_PROGRESS: Final = int(LeaseFlags.BREAK_IN_PROGRESS)
_PARENT_KEY_SET: Final = int(LeaseFlags.PARENT_LEASE_KEY_SET)
_ACK_REQUIRED: Final = int(LeaseBreakFlags.ACK_REQUIRED)

_VOUCHED_BY_LEVEL: Final = {
    _LEVEL_II: _READ,
    int(OplockLevel.EXCLUSIVE): _READ | _WRITE,
    _BATCH: _ALL,
}
"""What an oplock is worth in terms of leases."""

_APART: Final = 0x4000
"""An epoch that a lease which has just been granted is far from."""

_MAX_EARLY: Final = 256
"""Oplock breaks of unknown handles that are kept while CREATEs are in flight: more than there can be
of those on a dialect whose requests cost one credit each, unless the server makes handles up."""


def _is_newer(epoch: int, than: int) -> bool:
    """Whether a 16-bit epoch comes after another one; it wraps around ([MS-SMB2] 3.2.5.19.2)."""
    return 0 < (epoch - than) & 0xFFFF <= 0x7FFF


class LeaseRecord:
    """The caching rights of one file, shared by every handle that is opened with them.

    It belongs to a connection's table while it is in use there, and to none otherwise: where the file is need
    not be known before it is opened.

    **Invariant:** `state` is 0 unless a file is open with this lease.
    """

    def __init__(self) -> None:
        self.key = secrets.token_bytes(16)
        """What the server knows the lease by."""
        self.is_folder = False
        """Whether it was last asked for with a folder."""
        self.state = 0
        """The `LeaseState` bits that the server vouches for now."""
        self.term = 0
        """Counts how often READ_CACHING was gained. What was cached at one term is good as long as the
        term is the same and the state has READ_CACHING."""
        self._table: LeaseTable | None = None
        self.folder: LeaseRecord | None = None
        """The lease of the folder that the file's name is in: what is done with this lease there does not
        break it, whether the server has granted it or not."""
        self.claims: set[Claim] = set()
        """CREATEs in flight that ask for it."""
        self._levels: dict[FileId, int] = {}
        """The oplock level of each open file."""
        self._is_known = False
        """Whether `state` is what a grant said since the first of the open files was opened."""
        self._epoch = 0
        self._newest_claim = 0
        self._owed: int | None = None
        """The state that an acknowledgement is due for. **Invariant:** until the server has answered it,
        `state` is not above that: it might take it for the answer to a later break."""
        self._unanswered: list[int] = []
        self._unsettled: int | None = None
        """The state that breaks had asked for which were not settled when the connection was lost."""
        self._owed_levels: dict[FileId, int] = {}

    def tell_owner(self) -> None:
        """The state was lowered, or an acknowledgement is due; must neither wait nor raise."""
        raise NotImplementedError

    def set_epoch_apart(self) -> None:
        """Have the next grant show whether the server knows the lease already; see `is_from_before`."""
        self._epoch = _APART

    @property
    def is_from_before(self) -> bool:
        """Whether the server has granted this lease before the CREATE that `set_epoch_apart` prepared.

        A new lease goes on from the epoch in the request, one that exists from its own.
        """
        return self._is_known and self._epoch != 0 and not _is_newer(self._epoch, _APART)

    @property
    def needs_acknowledgement(self) -> bool:
        """Whether the server, and another client behind it, wait for an acknowledgement."""
        return self._owed is not None or bool(self._owed_levels)

    def next_acknowledgement(self) -> Request | None:
        """The acknowledgement to send next, which then is not due any more; None if there is none."""
        if self._owed is not None:
            state, self._owed = self._owed, None
            self._unanswered.append(state)
            return LeaseBreakAcknowledgement(self.key, state)
        if self._owed_levels:
            return OplockBreak(*self._owed_levels.popitem())
        return None

    def answered(self, request: Request) -> None:
        """The server took or refused an acknowledgement."""
        if isinstance(request, LeaseBreakAcknowledgement):
            self._unanswered.remove(request.lease_state)

    def may_be_used_in(self, table: LeaseTable) -> bool:
        """Whether it is in use with no other table."""
        return self._table in (None, table)

    def begin_use(self, table: LeaseTable, claim: Claim) -> None:
        """A CREATE asks for it at the server whose table this is, which `may_be_used_in` says it may."""
        self._table = table
        self.claims.add(claim)

    def asked_for_changes(self, kind: LeaseKind) -> tuple[int, Sequence[CreateContext]]:
        """Oplock level and contexts of a CREATE by path that is to break neither this lease nor `folder`."""
        if kind not in (LeaseKind.V1, LeaseKind.V2):
            return _NO_OPLOCK, ()
        if not (self._levels or self.claims or self.folder is not None):
            return _NO_OPLOCK, ()
        return _LEASED, (self._context(kind, self.state),)

    def asked_for_folder(self, kind: LeaseKind) -> tuple[int, Sequence[CreateContext]]:
        """Oplock level and contexts of the CREATE of a folder that asks for all there is."""
        return _LEASED, (self._context(kind, _FOLDER),)

    def asked_for_open(self, kind: LeaseKind) -> tuple[int, Sequence[CreateContext]]:
        """Oplock level and contexts of a CREATE that asks for all there is."""
        if kind is LeaseKind.OPLOCK:
            # A second batch oplock would break the first: oplocks belong to handles, not to clients.
            return (_LEVEL_II if self._levels or self.claims else _BATCH), ()
        return _LEASED, (self._context(kind, _ALL),)

    def _context(self, kind: LeaseKind, state: int) -> GrantContext:
        if kind is LeaseKind.V1:
            return create_contexts.Lease(self.key, state)
        flags, folder_key = 0, bytes(16)
        if self.folder is not None:
            flags, folder_key = _PARENT_KEY_SET, self.folder.key
        # A lease that the server has forgotten is granted anew with epochs that follow this one.
        return LeaseV2(self.key, state, flags, folder_key, self._epoch)

    def _take_state(self, state: int) -> int:
        """Set the state; returns the bits that are lost by it."""
        lost = self.state & ~state
        if state & ~self.state & _READ:
            self.term += 1
        self.state = state
        return lost

    def take_grant(self, claim: Claim, grant: GrantContext) -> None:
        """A CREATE was answered with this context ([MS-SMB2] 3.2.5.7)."""
        state, missed = self._believable(claim, grant)
        epoch = grant.epoch if isinstance(grant, LeaseV2) else 0
        if not self._is_known:
            self._is_known, self._unsettled = True, None
            # Not that of a break seen before, if newer: that may have been of an earlier life of the lease.
            self._epoch = epoch
        elif isinstance(grant, LeaseV2):
            if epoch == self._epoch:
                state &= self.state
            elif not _is_newer(epoch, self._epoch):
                return
            self._epoch = epoch
        elif claim.number < self._newest_claim:
            return
        self._newest_claim = claim.number
        if missed is not None:
            self._owed = missed
        if self._take_state(state) or missed is not None:
            self.tell_owner()

    def _believable(self, claim: Claim, grant: GrantContext) -> tuple[int, int | None]:
        """What of a grant is not taken back by now, and what a break of it that got lost leaves."""
        state = grant.lease_state & claim.limit(grant)
        for acknowledged in self._unanswered:
            state &= acknowledged
        if self._owed is not None:
            state &= self._owed
        if not grant.lease_flags & _BREAK_IN_PROGRESS:
            missed = self._missed(grant) if claim.takes_back and not self._is_known else None
            return (state, None) if missed is None else (state & missed, missed)
        # The server tells the state from before the break, until the break is acknowledged.
        if self._is_known:
            return state & self.state, None
        if claim.is_broken:
            return state & claim.ceiling, None
        # The break was for a CREATE that was given up, and nobody acknowledged it.
        return 0, 0

    def _missed(self, grant: GrantContext) -> int | None:
        """What a break around the loss of the connection leaves of a lease that is given back.

        Samba (4.17) waits for its acknowledgement, neither says so nor breaks the lease again, and has
        whoever opens the file wait for 35 s. In doubt one is sent: where none is due it is refused.
        """
        if self._unsettled is not None:
            return self._unsettled
        is_sure = isinstance(grant, LeaseV2) and not _is_newer(grant.epoch, self._epoch)
        return None if is_sure else 0

    def take_break(self, notification: LeaseBreakNotification, kind: LeaseKind) -> None:
        """[MS-SMB2] 3.2.5.19.2."""
        new_state, epoch = notification.new_lease_state & _ALL, notification.new_epoch
        lost = self.state & ~new_state
        if kind is LeaseKind.V2 and self._is_known:
            # One of the same epoch comes from a server that does not count, or comes twice: no harm.
            if _is_newer(self._epoch, epoch):
                log.debug("a break of epoch %d came late: ours is %d", epoch, self._epoch)
                return
            self._epoch = epoch
        for claim in self.claims:
            claim.lower(new_state, epoch)
        self._take_state(self.state & new_state)
        acknowledge = notification.flags & _ACK_REQUIRED
        if acknowledge:
            self._owed = new_state if self._owed is None else self._owed & new_state
        if lost or acknowledge:
            self.tell_owner()

    def take_level(self, file_id: FileId, level: int) -> None:
        """A file is open with this oplock level."""
        self._levels[file_id] = level
        if level != _LEASED:
            self._add_up()

    def take_oplock_break(self, file_id: FileId, level: int) -> None:
        """[MS-SMB2] 3.2.5.19.1."""
        held = self._levels[file_id]
        if held == _LEASED or level >= held:
            log.debug("a break of an oplock to level %d, where %d is held", level, held)
            return
        self._levels[file_id] = level
        lost = self._add_up()
        # Nobody waits for level II to go ([MS-SMB2] 3.3.4.6).
        acknowledge = held > _LEVEL_II or file_id in self._owed_levels
        if acknowledge:
            self._owed_levels[file_id] = level
        if lost or acknowledge:
            self.tell_owner()

    def _add_up(self) -> int:
        state = 0
        for level in self._levels.values():
            state |= _VOUCHED_BY_LEVEL.get(level, 0)
        return self._take_state(state)

    def forget_file(self, file_id: FileId) -> None:
        """A file is being closed."""
        level = self._levels.pop(file_id)
        self._owed_levels.pop(file_id, None)
        if self._levels and level != _LEASED:
            if self._add_up():
                self.tell_owner()
            return
        self._retire()

    def forget_claim(self, claim: Claim) -> None:
        """A CREATE is answered or given up."""
        self.claims.discard(claim)
        self._retire()

    def _retire(self) -> None:
        """The last file that closes takes the lease along; what is due then needs no acknowledgement."""
        if self._levels:
            return
        self._take_state(0)
        self._is_known = False
        if not self.claims:
            self._owed = None
            table, self._table = self._table, None
            if table is not None:
                table.forget(self)

    def lose(self, *, tell: bool) -> None:
        """The connection is gone."""
        owed = [] if self._owed is None else [self._owed]
        for state in (*self._unanswered, *owed):
            self._unsettled = state if self._unsettled is None else self._unsettled & state
        self._levels.clear()
        self._owed_levels.clear()
        lost = self.state
        self._retire()
        if lost and tell:
            self.tell_owner()


@dataclass(eq=False, slots=True)
class Claim:
    """A CREATE in flight that asks for a lease, or for none; a context manager around its exchange. With
    `takes_back` it asks for a file that was open with it on the connection before.

    Breaks that arrive before its reply lower `ceiling`.
    """

    table: LeaseTable
    lease: LeaseRecord | None
    number: int = 0
    oplock_level: int = _NO_OPLOCK
    contexts: Sequence[CreateContext] = ()
    takes_back: bool = False
    ceiling: int = _ALL
    is_broken: bool = False
    broken_at: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.table.withdraw(self)

    def lower(self, state: int, epoch: int) -> None:
        """A break to `state` arrived."""
        self.ceiling &= state
        if not self.is_broken or _is_newer(epoch, self.broken_at):
            self.broken_at = epoch
        self.is_broken = True

    def limit(self, grant: GrantContext) -> int:
        """What the breaks so far leave of `grant`: all of it if that is newer than they are."""
        if self.is_broken and isinstance(grant, LeaseV2) and _is_newer(grant.epoch, self.broken_at):
            return _ALL
        return self.ceiling

    def settle(self, response: CreateResponse) -> bool:
        """Book what the server granted; returns whether the new file is part of the lease.

        Raises `RemoteProtocolError` if it is none that was asked for.
        """
        return self.lease is not None and self.table.book(self, self.lease, response)


class LeaseTable:
    """The leases of one connection that are in use: by key, and by the files that are open with them."""

    def __init__(self) -> None:
        self.kind = LeaseKind.NONE
        self._by_key: dict[bytes, LeaseRecord] = {}
        self._by_file: dict[FileId, LeaseRecord] = {}
        self._early: dict[FileId, int] = {}
        """Oplock breaks of handles that the CREATEs in flight may turn out to have opened."""
        self._in_flight = 0
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def has_files(self) -> bool:
        """Whether any file is open with a lease."""
        return bool(self._by_file)

    def held(self) -> dict[str, dict[str, int]]:
        """How many "files" and "folders" the server vouches for, by the letters of what for, as "RWH"."""
        counts = {"files": Counter[str](), "folders": Counter[str]()}
        for lease in self._by_key.values():
            if lease.state:
                letters = "".join(letter for letter, bit in _LETTERS if lease.state & bit)
                counts["folders" if lease.is_folder else "files"][letters] += 1
        return {kind: dict(sorted(found.items())) for kind, found in counts.items()}

    def claim(self, lease: LeaseRecord | None, *, is_folder: bool = False, takes_back: bool = False) -> Claim:
        """Announce a CREATE that asks for `lease`, that of a file or of a folder; to be used as a context
        manager. With `takes_back` it asks for what the server kept while the connection was lost. It asks for
        none if there are none, or this one is in use at another server."""
        if lease is None or self.kind is LeaseKind.NONE or not lease.may_be_used_in(self):
            return Claim(self, None)
        level, contexts = (lease.asked_for_folder if is_folder else lease.asked_for_open)(self.kind)
        claim = Claim(self, lease, next(self._numbers), level, contexts, takes_back)
        lease.is_folder = is_folder
        self._by_key[lease.key] = lease
        self._in_flight += 1
        lease.begin_use(self, claim)
        return claim

    def asked_for_changes(self, lease: LeaseRecord | None) -> tuple[int, Sequence[CreateContext]]:
        """Oplock level and contexts of a CREATE by path that is to break neither `lease`, if there is one,
        nor that of its folder."""
        if lease is None or not lease.may_be_used_in(self):
            return _NO_OPLOCK, ()
        return lease.asked_for_changes(self.kind)

    def withdraw(self, claim: Claim) -> None:
        """The CREATE is not in flight any more, or nobody waits for it."""
        if claim.lease is None:
            return
        self._in_flight -= 1
        if not self._in_flight:
            self._early.clear()
        claim.lease.forget_claim(claim)

    def book(self, claim: Claim, lease: LeaseRecord, response: CreateResponse) -> bool:
        """Book a grant; returns whether the file is part of the lease."""
        file_id, level = response.file_id, response.oplock_level
        grant = None
        if self.kind is not LeaseKind.OPLOCK:
            grant = only_grant_untrusted(response, lease.key, self.kind)
            level = _LEASED if grant is not None and level == _LEASED else _NO_OPLOCK
        if level != _LEASED and level not in _VOUCHED_BY_LEVEL:
            return False
        if file_id in self._by_file:
            raise RemoteProtocolError("the server gave the same handle out twice")
        self._by_file[file_id] = lease
        early = self._early.pop(file_id, None)
        lease.take_level(file_id, level)
        if grant is not None:
            lease.take_grant(claim, grant)
        elif early is not None:
            lease.take_oplock_break(file_id, early)
        return True

    def closing(self, file_id: FileId) -> None:
        """A CLOSE left: whatever the server sends from now on is not about this handle."""
        lease = self._by_file.pop(file_id, None)
        if lease is not None:
            lease.forget_file(file_id)

    def take_break(self, notification: LeaseBreakNotification | OplockBreak) -> None:
        """The server breaks a lease or an oplock; what is unknown is ignored ([MS-SMB2] 3.2.5.19)."""
        if isinstance(notification, LeaseBreakNotification):
            lease = self._by_key.get(notification.lease_key)
            if lease is not None and self.kind is not LeaseKind.OPLOCK:
                lease.take_break(notification, self.kind)
            else:
                log.debug("a break of a lease that is not in use: %s", notification)
            return
        file_id, level = notification.file_id, notification.oplock_level
        lease = self._by_file.get(file_id)
        if lease is not None:
            lease.take_oplock_break(file_id, level)
        elif self.kind is LeaseKind.OPLOCK and self._in_flight and len(self._early) < _MAX_EARLY:
            self._early[file_id] = level
        else:
            log.debug("a break of an oplock that is not held: %s", notification)

    def forget(self, lease: LeaseRecord) -> None:
        """Nothing is open or in flight with `lease`."""
        self._by_key.pop(lease.key, None)

    def lose(self, *, tell: bool) -> None:
        """The connection is gone: nothing is vouched for any more. With `tell` the owners hear of it."""
        leases = list(self._by_key.values())
        self._by_file.clear()
        self._early.clear()
        for lease in leases:
            lease.lose(tell=tell)
