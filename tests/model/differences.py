"""The known differences between a mount and a local folder, each with its reason. There are no others.

A rule says of one operation whether what the mount answered is one of them. Then the local folder does not
do the operation, so that both stay equal.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from smbmount.vfs.symlinks import is_contained
from tests.model.operations import Operation
from tests.model.world import Outcome, Seen, World

_NOW: Final = 5.0
"""Seconds: the servers' times and ours are the same clock, but a time of writing may come with a close."""
_LATE: Final = 4.0
"""Seconds: Samba dates a write after two, and what it says is believed for one."""
_LONG_AGO: Final = 86_400.0
_TIME_STEP: Final = 100


@dataclass(slots=True)
class Situation:
    """What rules look at: the local folder, and what it cannot know of the mount."""

    local: World
    options: Sequence[str]
    is_cut: bool = False
    """Whether connections are cut. Samba 4.17 may then keep a record of a file that was open, and tell the
    time of writing in it although the file on its disk has another."""
    hidden: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """Files without a name that are open: file → the folder in which the server keeps them."""
    undated: set[tuple[int, int]] = field(default_factory=set)
    """Folders in which such files were."""
    _written_at: dict[tuple[int, int], float] = field(default_factory=dict)
    """When a file was open for writing last, or changed by its name while it was open."""

    def identity(self, operation: Operation, path: str) -> tuple[int, int] | None:
        """What a path names in the local folder."""
        return self._identity(operation, path, os.lstat)

    def target(self, operation: Operation, path: str) -> tuple[int, int] | None:
        """What it leads to, if it is a symbolic link."""
        return self._identity(operation, path, os.stat)

    def _identity(
        self, operation: Operation, path: str, look: Callable[[str], os.stat_result]
    ) -> tuple[int, int] | None:
        self.local.enter(operation.client)
        try:
            info = look(path)
        except OSError:
            return None
        return info.st_dev, info.st_ino

    def open_files(self, *, writable: bool = False) -> set[tuple[int, int]]:
        """Which files are open, or are for writing."""
        slots = self.local.slots.values()
        chosen = [slot for slot in slots if not writable or slot.flags & os.O_ACCMODE != os.O_RDONLY]
        return {self.local.identity_of(slot) for slot in chosen}

    def may_be_dated_late(self, seen: Seen) -> bool:
        """Whether a file is open for writing, or was a moment ago, or a folder is changed by the server when
        the last close of a file removes it there."""
        if self.is_cut or seen.identity in self.undated:
            return True
        if seen.identity in self.open_files(writable=True):
            return True
        return time.monotonic() - self._written_at.get(seen.identity, -_LATE) < _LATE

    def below(self, operation: Operation, path: str) -> set[tuple[int, int]]:
        """Every file and folder below a path, and itself, in the local folder."""
        self.local.enter(operation.client)
        found = {self.identity(operation, path)}
        for folder, folders, files in os.walk(path):
            found |= {self.identity(operation, os.path.join(folder, name)) for name in (*folders, *files)}
        return {identity for identity in found if identity is not None}

    def before(self, operation: Operation) -> None:
        """Remember what loses its last name by an operation that the mount has done, and what was written."""
        self._written_at |= dict.fromkeys(self.open_files(writable=True), time.monotonic())
        if operation.name in ("write_file", "truncate"):
            named = self.target(operation, operation.arguments[0])
            if named is not None and named in self.open_files():
                self._written_at[named] = time.monotonic()
        if operation.name in ("unlink", "rename", "rename_with"):
            path = operation.arguments[-1] if operation.name == "unlink" else operation.arguments[1]
            file, folder = (
                self.identity(operation, path),
                self.identity(operation, os.path.dirname(path) or "."),
            )
            if file is not None and folder is not None and file in self.open_files():
                self.hidden[file] = folder
                self.undated.add(folder)

    def after(self) -> None:
        """Forget what is not open any more."""
        still = self.open_files() if self.hidden else set()
        self.hidden = {file: folder for file, folder in self.hidden.items() if file in still}


@dataclass(frozen=True, slots=True)
class Rule:
    """`operations` may answer `error` in the mount where `holds`, for a reason that SEMANTICS.md gives."""

    operations: tuple[str, ...]
    error: str
    reason: str
    holds: Callable[[Situation, Operation], bool]


def _always(situation: Situation, operation: Operation) -> bool:
    return True


def _holds_hidden_file(situation: Situation, operation: Operation) -> bool:
    folder = situation.identity(operation, operation.arguments[-1 if operation.name == "rmdir" else 1])
    return folder in situation.hidden.values()


def _has_open_files_below(situation: Situation, operation: Operation) -> bool:
    below, opened = situation.below(operation, operation.arguments[0]), situation.open_files()
    return bool(below & opened) or bool(below & set(situation.hidden.values()))


def _is_not_utf8(situation: Situation, operation: Operation) -> bool:
    return any(isinstance(value, str) and "\udcff" in value for value in operation.arguments)


def _escapes(situation: Situation, operation: Operation) -> bool:
    target, path = operation.arguments
    return not is_contained(os.fsencode(target), path.count("/") + 2)


def _is_empty(situation: Situation, operation: Operation) -> bool:
    return bool(operation.arguments[-1] == 0)


def _exchanges(situation: Situation, operation: Operation) -> bool:
    return bool(operation.arguments[-1] == 2)


def _is_read_only(situation: Situation, operation: Operation) -> bool:
    slot = situation.local.slots[operation.arguments[0]]
    return slot.flags & os.O_ACCMODE == os.O_RDONLY and not os.fstat(slot.fd).st_mode & 0o222


def _has_no_name_and_no_writer(situation: Situation, operation: Operation) -> bool:
    number = operation.arguments[0]
    file = situation.local.identity(number)
    writers = [slot for slot in situation.local.slots.values() if slot.flags & os.O_ACCMODE != os.O_RDONLY]
    nameless = os.fstat(situation.local.slots[number].fd).st_nlink == 0
    return nameless and all(situation.local.identity_of(slot) != file for slot in writers)


def _is_uncached(situation: Situation, operation: Operation) -> bool:
    return "cache=none" in situation.options


_RENAMES: Final = ("rename", "rename_with")

RULES: Final = (
    Rule(("rmdir", *_RENAMES), "ENOTEMPTY",
         "the server keeps an open file without a name in its folder until it is closed", _holds_hidden_file),
    Rule(_RENAMES, "EACCES", "Samba does not rename a folder in which a file is open", _has_open_files_below),
    Rule(("setxattr",), "ENOTSUP", "SMB cannot hold an empty extended attribute", _is_empty),
    Rule(("rename_with",), "EINVAL", "SMB cannot exchange two names", _exchanges),
    Rule(("mkfifo",), "EPERM", "a share holds no devices, pipes and sockets", _always),
    Rule(("open", "stat", "lstat", "access", "rename", "rename_with", "link", "symlink", "readlink", "unlink",
          "mkdir", "rmdir", "mkfifo", "listdir", "chmod", "utimens", "touch", "setxattr", "getxattr",
          "listxattr", "removexattr", "read_file", "write_file", "truncate"),
         "EILSEQ", "names are UTF-8 on a share", _is_not_utf8),
    Rule(("symlink",), "EPERM", "links lead to places in the mount (symlinks=contain)", _escapes),
    Rule(("fsync", "fdatasync"), "EACCES",
         "servers write to disk only for who may write; a read-only file cannot be opened for that",
         _is_read_only),
    Rule(("fchmod", "futimens"), "ESTALE",
         "a file without a name cannot be opened once more, to be changed through that",
         _has_no_name_and_no_writer),
    Rule(("mmap_write",), "ENODEV", "with cache=none there are no pages to share", _is_uncached),
)  # fmt: skip


def known_refusal(situation: Situation, operation: Operation, outcome: Outcome) -> Rule | None:
    """The rule that explains why the mount refused, if there is one."""
    return next(
        (
            rule
            for rule in RULES
            if operation.name in rule.operations
            and outcome.error == rule.error
            and rule.holds(situation, operation)
        ),
        None,
    )


def differs(here: Outcome, there: Outcome, situation: Situation) -> str | None:
    """What differs between the mount's outcome (`here`) and the local one, in words; None if nothing does."""
    if isinstance(here.value, Seen) and isinstance(there.value, Seen):
        return _seen_differs(here.value, there.value, situation)
    if here == there:
        return None
    if isinstance(here.value, bytes) and isinstance(there.value, bytes):
        return f"{here} instead of {there}: {first_difference(here.value, there.value)}"
    return f"{here} instead of {there}"


def _seen_differs(here: Seen, there: Seen, situation: Situation) -> str | None:
    # A listing does not tell the links of files.
    links = there.links if here.links == 1 and "actimeo=0" not in situation.options else here.links
    for name, one, other in zip(here._fields, here, there, strict=True):
        if name == "identity":
            continue
        if name == "links":
            one = links
        if name == "writable" and not there.links:
            # The attribute is taken from a file that is removed.
            continue
        if name == "write_ns":
            # Samba tells the time of writing when the file is closed, a moment later if others have it open.
            if not same_time(here.write_ns, there.write_ns) and not situation.may_be_dated_late(there):
                return f"st_mtime {one} instead of {other}"
        elif one != other:
            return f"{name} {one} instead of {other}"
    return None


def same_time(here: int, there: int) -> bool:
    """Whether two times of writing are the same: exactly, as SMB can hold it, if a program has set them;
    those that the clock gave are alike."""
    now = time.time()
    if abs(there / 1e9 - now) > _LONG_AGO:
        return here == there // _TIME_STEP * _TIME_STEP
    return abs(here - there) / 1e9 < _NOW


def trees_differ(
    here: dict[str, Any], there: dict[str, Any], where: str, *, times: bool = True
) -> str | None:
    """What differs between two trees, in words; with or without times."""
    if here.keys() != there.keys():
        more, less = sorted(here.keys() - there.keys()), sorted(there.keys() - here.keys())
        return f"{where}: {more} should not be there, {less} are missing"
    for path, description in sorted(there.items()):
        shown = here[path]
        if shown[0] != description[0]:
            return f"{where}: {path} is a {shown[0]}, not a {description[0]}"
        for name, one, other in zip(_DESCRIBED, shown[1:], description[1:], strict=False):
            if one is None or (name == "time" and (not times or same_time(one, other))):
                continue
            if one != other:
                return f"{where}: {path}: {name}: {_pair(one, other)}"
    return None


_DESCRIBED: Final = ("content", "writable", "time", "extended attributes")


def _pair(here: Any, there: Any) -> str:
    if isinstance(here, bytes) and isinstance(there, bytes):
        return first_difference(here, there)
    return f"{here!r} instead of {there!r}"


def first_difference(here: bytes, there: bytes) -> str:
    """Where two contents part, and where they meet again if their ends are equal."""
    pairs = enumerate(zip(here, there, strict=False))
    index = next((at for at, (one, other) in pairs if one != other), min(len(here), len(there)))
    told = f"{len(here)} bytes instead of {len(there)}, equal up to {index}"
    if len(here) == len(there):
        last = next(at for at in reversed(range(len(here))) if here[at] != there[at])
        told += f" and from {last + 1} on"
    return f"{told}, {here[index : index + 8].hex()} instead of {there[index : index + 8].hex()}"
