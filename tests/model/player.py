"""Plays operations in a mount and in the local folder beside it, and stops at the first difference.

    python -m tests.model.player < JSON

A process of its own: without privileges (root may write what is read-only, and a local folder would show it
where a share cannot), and one that can be ended when a call into the mount does not return. It prints the
number of each operation before it plays it, and in the end `= ` and what differed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.model.differences import Situation, differs, known_refusal, trees_differ
from tests.model.fragile import is_fragile
from tests.model.operations import Operation, from_json
from tests.model.sharing import Sharing
from tests.model.world import World

SLOW: Final = 10.0
"""Seconds: no call waits so long, also if the line is cut meanwhile."""
SETTLED: Final = 5.0
"""Seconds: a written file is closed on the server a moment after its close here, and dated then."""


@dataclass(slots=True)
class Player:
    """Both worlds, and how far the play has come."""

    mounted: World
    local: World
    situation: Situation
    sharing: Sharing | None

    def play(self, operations: list[Operation]) -> str | None:
        """Play them; what differed first, or None. Both folders are compared as a whole at the end."""
        for index, operation in enumerate(operations):
            print(index, flush=True)
            difference = self._step(operation)
            if difference is not None:
                return f"operation {index}, {operation}: {difference}"
        print("end", flush=True)
        errors = self.mounted.close_all(), self.local.close_all()
        if errors[0] != errors[1]:
            return f"closing everything: {errors[0]} instead of {errors[1]}"
        deadline = time.monotonic() + SETTLED
        difference = self._trees_differ()
        while difference is not None and ": time:" in difference and time.monotonic() < deadline:
            time.sleep(0.5)
            difference = self._trees_differ()
        return difference

    def _trees_differ(self) -> str | None:
        self._date_folders()
        there = self.local.tree()
        for client in range(len(self.mounted.roots)):
            where = f"in the end, seen by client {client}"
            difference = trees_differ(
                self.mounted.tree(client), there, where, times=not self.situation.is_cut
            )
            if difference is not None:
                return difference
        return None

    def _date_folders(self) -> None:
        """Give the folders that the server has dated anew the same times here."""
        for path in [".", *self.local.tree()]:
            self.local.enter(0)
            info = os.lstat(path)
            if (info.st_dev, info.st_ino) in self.situation.undated:
                self.mounted.enter(0)
                dated = os.lstat(path).st_mtime_ns if os.path.isdir(path) else info.st_mtime_ns
                self.local.enter(0)
                os.utime(path, ns=(dated, dated))

    def _step(self, operation: Operation) -> str | None:
        if self.situation.is_cut and is_fragile(self.situation, operation):
            return None
        if self.sharing is not None:
            if self.sharing.is_undecided(operation):
                return None
            self.sharing.about_to(operation)
        began = time.monotonic()
        here = self.mounted.do(operation)
        if here.error == "ESTALE" and self._renames_over_a_folder(operation):
            # Another client may have moved it there, and nobody here has looked since.
            self.mounted.do(Operation("lstat", (operation.arguments[1],), operation.client))
            here = self.mounted.do(operation)
        took = time.monotonic() - began
        if took > SLOW:
            return f"took {took:.1f} s"
        if known_refusal(self.situation, operation, here) is not None:
            return None
        self.situation.before(operation)
        there = self.local.do(operation)
        self.situation.after()
        if self.sharing is not None:
            self.sharing.done(operation)
        return differs(here, there, self.situation)

    def _renames_over_a_folder(self, operation: Operation) -> bool:
        if self.sharing is None or operation.name not in ("rename", "rename_with"):
            return False
        source, target = operation.arguments[:2]
        self.local.enter(operation.client)
        return os.path.dirname(source) != os.path.dirname(target) and os.path.isdir(target)


def main() -> None:
    """Read what to play from standard input, give up privileges, play it, and print what differed."""
    task: dict[str, Any] = json.load(sys.stdin)
    mounted = World([Path(root) for root in task["mounts"]])
    local = World([Path(task["local"])])
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(task["gid"], task["gid"], task["gid"])
        os.setresuid(task["uid"], task["uid"], task["uid"])
    os.umask(0o022)
    sharing = None
    if len(mounted.roots) > 1:
        sharing = Sharing(local, keeps_files="closetimeo=0" not in task["options"])
    player = Player(mounted, local, Situation(local, task["options"], task["cuts"]), sharing)
    difference = player.play([from_json(values) for values in task["operations"]])
    print("=", json.dumps(difference), flush=True)


if __name__ == "__main__":
    main()
