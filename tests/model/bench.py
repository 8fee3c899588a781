"""Plays operations in fresh mounts of a real server, beside a local folder: one verdict for each play."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from smbmount.vfs import symlinks
from smbmount.vfs.names import NameMap
from tests.model.cuts import CutLine
from tests.model.differences import trees_differ
from tests.model.operations import Operation
from tests.model.world import World
from tests.support.mounting import CHECKOUT, Mount, MountError
from tests.support.samba import SambaServer

PLAY_DEADLINE: Final = 240.0
"""Seconds; a play of 500 operations takes 2 to 10."""
_SERVER_DEADLINE: Final = 30.0
_LOG_LINES: Final = 40
_ROOT: Final = "root"
_SETTLED_DEADLINE: Final = 20.0
"""Seconds: a closed file is kept open for ten."""
_CREDITS: Final = 8192
"""What Samba grants, and a mount asks for."""
_MEMORY_LIMIT: Final = 150 << 20
"""Bytes that a daemon may use."""

VARIANTS: Final[tuple[tuple[str, ...], ...]] = (
    (),
    ("actimeo=0",),
    ("closetimeo=0",),
    ("cache=none",),
    ("cache=loose",),
    ("vers=2.1",),
    ("vers=2.0",),
    ("vers=3.0",),
    ("prefetch=off",),
    ("seal",),
    ("rsize=8192", "wsize=8192"),
    ("noserverino",),
    ("max_credits=4",),
)
"""Options of mounts; each seed takes one of them."""

SHARED_VARIANTS: Final[tuple[tuple[str, ...], ...]] = tuple(
    ("actimeo=0", *more)
    for more in (
        (),
        ("closetimeo=0",),
        ("vers=2.1", "closetimeo=0"),
        ("vers=2.0", "closetimeo=0"),
        ("vers=3.0",),
    )
)
"""With a second client: names are believed for no time, so that what the other does is seen at once."""

CUT_VARIANTS: Final[tuple[tuple[str, ...], ...]] = tuple(
    ("closetimeo=1", *more)
    for more in ((), ("actimeo=0",), ("cache=none",), ("vers=2.1",), ("vers=3.0",), ("seal",))
)


class Bench:
    """Where plays happen: in new folders of the server's share, and of `scratch`."""

    def __init__(self, server: SambaServer, scratch: Path, *, clients: int = 1, cuts: bool = False) -> None:
        self.server = server
        self.clients = clients
        self.cuts_made = 0
        self._cuts = cuts
        self._scratch = scratch
        self._count = 0
        account = pwd.getpwnam(server.user)
        self._uid, self._gid = account.pw_uid, account.pw_gid

    def play(self, operations: Sequence[Operation], options: Sequence[str], seed: int = 0) -> str | None:
        """Play them in new mounts with these options; what went wrong, or None. `seed` decides on the cuts.

        Looked at: every outcome, both trees, the server's own folder, the daemon's log and its end; where the
        line is cut, also what is left of open files, requests, data and tasks.
        """
        self._count += 1
        name = f"play{self._count}"
        on_server, local = self.server.share_path() / name, self._scratch / name
        for folder in (on_server, local):
            # Symbolic links may lead one level up.
            (folder / _ROOT).mkdir(parents=True)
            for level in (folder, folder / _ROOT):
                level.chmod(0o755)
            self.server.adopt(folder)
        logs = io.StringIO()
        try:
            with contextlib.redirect_stdout(logs):
                self._play(operations, options, name, local, seed)
            return self._compare(on_server, local)
        except MountError as exc:
            return f"{exc}\n{''.join(logs.getvalue().splitlines(keepends=True)[-_LOG_LINES:])}".rstrip()
        finally:
            self._wait_for_the_server()
            shutil.rmtree(on_server)
            shutil.rmtree(local)

    def _wait_for_the_server(self) -> None:
        """Return once the server has closed what the mounts had open, which it does when they are gone."""
        deadline = time.monotonic() + _SERVER_DEADLINE
        while self.server.connection_pids():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"the server serves connections of mounts that ended:\n{self.server.smbstatus()}"
                )
            time.sleep(0.01)

    def options(self, seed: int) -> tuple[str, ...]:
        """The options of the mounts for a seed."""
        variants = CUT_VARIANTS if self._cuts else VARIANTS if self.clients == 1 else SHARED_VARIANTS
        return variants[seed % len(variants)]

    def _play(
        self, operations: Sequence[Operation], options: Sequence[str], name: str, local: Path, seed: int
    ) -> None:
        with ExitStack() as stack:
            line = stack.enter_context(CutLine(self.server, seed)) if self._cuts else None
            port = line.port if line is not None else self.server.port
            mounts = [stack.enter_context(self._mount(options, port)) for _ in range(self.clients)]
            task = {
                "mounts": [str(mount.path / name / _ROOT) for mount in mounts],
                "local": str(local / _ROOT),
                "uid": self._uid,
                "gid": self._gid,
                "options": list(options),
                "cuts": self._cuts,
                "operations": [operation.as_json() for operation in operations],
            }
            tasks = [mount.statistics()["held"]["tasks"] for mount in mounts] if line is not None else []
            if line is not None:
                line.begin()
            difference = _run_player(task)
            if line is not None:
                line.heal()
                self.cuts_made += line.cuts
                difference = difference or self._leaks(mounts, tasks)
            if difference is not None:
                # Raised, so that the mounts end without being judged too.
                raise MountError(difference)

    def _leaks(self, mounts: Sequence[Mount], tasks: Sequence[int]) -> str | None:
        """What is still there, here or on the server, although every program has closed everything: requests,
        open files, bytes, and more tasks than there were before; and credits that are gone."""
        deadline = time.monotonic() + _SETTLED_DEADLINE
        for number in itertools.count():
            for mount in mounts:
                # Each request brings credits, up to all that there are.
                (mount.path / f"absent {number}").exists()
            left = [_left(mount.statistics(), before) for mount, before in zip(mounts, tasks, strict=True)]
            opened = [line for line in self.server.smbstatus("--locks").splitlines() if "play" in line]
            if not any(left) and not opened:
                break
            if time.monotonic() > deadline:
                return f"left: {opened}, {left}"
            time.sleep(0.1)
        used = max(_memory(mount.pid) for mount in mounts)
        return f"a daemon uses {used >> 20} MiB" if used > _MEMORY_LIMIT else None

    def _mount(self, options: Sequence[str], port: int) -> Mount:
        mountpoint = Path(tempfile.mkdtemp(prefix="mnt-", dir=self._scratch))
        owner = [f"uid={self._uid}", f"gid={self._gid}", "file_mode=0644"]
        others = ["allow_other"] if os.geteuid() == 0 else []
        mount = Mount(self.server, mountpoint, options=[*owner, *others, *options, f"port={port}"])
        if self._cuts:
            mount.expect_log(r"smbmount\.service: the connection to .* is (lost|back)")
        return mount

    def _compare(self, on_server: Path, local: Path) -> str | None:
        self._wait_for_the_server()
        with contextlib.chdir(os.getcwd()):
            there, here = _tree(local / _ROOT), _as_shown(_tree(on_server / _ROOT))
        return trees_differ(here, there, "on the server, after the end")


def _left(counters: dict[str, Any], tasks: int) -> dict[str, int]:
    """What a mount that nobody uses should not hold; it had so many tasks before."""
    held = counters["held"] | {"requests": counters["in_flight"]}
    # An ECHO may be on its way.
    allowed = {"tasks": tasks, "requests": 1}
    left = {name: count for name, count in held.items() if count > allowed.get(name, 0)}
    missing = _CREDITS - counters["credits"] - counters["in_flight"]
    return left | ({"missing credits": missing} if missing > 0 else {})


def _memory(pid: int) -> int:
    """The bytes of memory that a process uses."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _run_player(task: dict[str, Any]) -> str | None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.model.player"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    ) as player:
        try:
            told, complaints = player.communicate(json.dumps(task), timeout=PLAY_DEADLINE)
        except subprocess.TimeoutExpired:
            player.send_signal(signal.SIGKILL)
            told, complaints = player.communicate()
            return f"operation {_last(told)} did not end within {PLAY_DEADLINE:.0f} s"
    if player.returncode != 0 or not told:
        return f"the player ended at operation {_last(told)} with code {player.returncode}: {complaints}"
    difference: str | None = json.loads(_last(told).removeprefix("= "))
    return difference


def _last(told: str) -> str:
    return told.rstrip().rpartition("\n")[2]


def _tree(root: Path) -> dict[str, tuple[Any, ...]]:
    world = World([root])
    try:
        return world.tree()
    finally:
        os.close(world.roots[0])


def _as_shown(tree: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """A folder of the server as the mount has to show it."""
    names = NameMap(map_reserved=True)
    found: dict[str, tuple[Any, ...]] = {}
    for path, (kind, *described) in tree.items():
        parts = [names.decode_untrusted(part) for part in path.split("/")[1:]]
        shown = "/".join([".", *(os.fsdecode(part) if part is not None else "?" for part in parts)])
        if kind == "file" and (target := symlinks.decode_untrusted(described[0])) is not None:
            found[shown] = ("link", os.fsdecode(target))
        else:
            held, _, write_ns, eas = described
            eas = tuple(pair for pair in eas if pair[0] != "user.DOSATTRIB")
            found[shown] = (kind, held, None, write_ns, eas)
    return found
