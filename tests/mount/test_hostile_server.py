"""A server that means harm, behind a real mount: its names and links lead nowhere but into the mount."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio

from engine.wire.constants import Dialect
from engine.wire.negotiate import NegotiateResponse
from smbmount.mounttable import detach, topmost_mount
from smbmount.vfs import symlinks
from tests.fakes.middleman import choosing, in_the_middle
from tests.fakes.server import PASSWORD, USER, USER_FILE, FakeServer, running
from tests.fakes.server_tree import MemoryTree, Node
from tests.support.calls import error_of
from tests.support.mounting import CHECKOUT

pytestmark = pytest.mark.deadline(60)

_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.01


class Attacked:
    """A mount of a hostile server at `path`; `secret` is a file beside it that must not be reached."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mnt"
        self.secret = folder / "secret"
        self.log = folder / "log"
        self.credentials = folder / "credentials"
        self.path.mkdir()
        self.secret.write_text("secret")
        self.credentials.touch(0o600)
        self.credentials.write_text(f"username={USER}\npassword={PASSWORD}\n")

    @asynccontextmanager
    async def mounted(self, server: FakeServer, *options: str) -> AsyncGenerator[None, None]:
        """Mount the server's share, and unmount it without a trace."""
        with self.log.open("wb") as log, trio.fail_after(_SECONDS):
            async with running(server):
                given = ",".join([f"port={server.port}", f"credentials={self.credentials}", *options])
                command = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "smbmount"]
                process = await trio.lowlevel.open_process(
                    [*command, "//127.0.0.1/data", str(self.path), "-f", "-o", given],
                    env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
                try:
                    while not self._is_mounted():
                        assert process.poll() is None, self.log.read_text()
                        await trio.sleep(_POLL_SECONDS)
                    yield
                    await trio.run_process(["fusermount3", "-u", str(self.path)])
                    assert await process.wait() == 0
                finally:
                    process.kill()
                    with trio.CancelScope(shield=True):
                        await process.wait()
                    while self._is_mounted():
                        detach(str(self.path))

    def _is_mounted(self) -> bool:
        return topmost_mount(str(self.path)) is not None


@pytest.fixture
def attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attacked:
    """Nothing is mounted yet."""
    users = tmp_path / "users"
    users.write_text(USER_FILE)
    monkeypatch.setenv("NTLM_USER_FILE", str(users))
    return Attacked(tmp_path)


def add_folders(tree: MemoryTree, path: str) -> Node:
    """Folders below each other."""
    folder, done = tree.root, ""
    for name in path.split("/"):
        done = f"{done}\\{name}".strip("\\")
        folder = tree.add_folder(done)
    return folder


def attack(attacked: Attacked, server: FakeServer, steps: Callable[[Path], None], *options: str) -> str:
    """Mount, let a thread take the steps, unmount; the daemon's log."""

    async def main() -> None:
        async with attacked.mounted(server, *options):
            await trio.to_thread.run_sync(steps, attacked.path)

    trio.run(main)
    return attacked.log.read_text()


HOSTILE: Final = [
    "/\nCRITICAL smbmount: forged",
    "../secret",
    "a/b",
    "/etc",
    "nul\0",
    "",
    "..\\secret",
    "x" * 256,
    "日" * 86,
    "end\n",
    "a:b",
]


def test_hostile_names_are_dropped_counted_and_logged_once(attacked: Attacked) -> None:
    server = FakeServer()
    server.tree.add_file("good", b"content")
    server.tree.hostile_names = [*HOSTILE, ".", "..", "\ud800"]

    def steps(here: Path) -> None:
        for _ in range(2):
            assert sorted(os.listdir(os.fsencode(here))) == [b"good", b"\xed\xa0\x80"]
            with os.scandir(here) as entries:
                assert len([entry.stat(follow_symlinks=False) for entry in entries]) == 2
        assert (here / "good").read_bytes() == b"content"

    log = attack(attacked, server, steps)
    [line] = [line for line in log.splitlines() if "WARNING" in line]
    assert "names that cannot be shown" in line
    assert not [line for line in log.splitlines() if line.startswith("CRITICAL")]


ESCAPING: Final = ["/etc/passwd", "//x", "..", "../secret", "./../secret", "a/../../secret", "a/b/../../.."]


def errors_of_following(link: Path) -> set[int]:
    """What programs get that use a link."""
    return {
        error_of(lambda: os.readlink(link)),
        error_of(link.stat),
        error_of(link.read_bytes),
        error_of(lambda: os.listdir(link)),
        error_of(lambda: link.write_bytes(b"overwritten")),
    }


def test_links_out_of_the_mount_are_neither_followed_nor_made(attacked: Attacked) -> None:
    server = FakeServer()
    add_folders(server.tree, "a/b")
    for number, target in enumerate(ESCAPING):
        server.tree.add_file(f"link{number}", symlinks.encode(target.encode()))

    def steps(here: Path) -> None:
        for number, target in enumerate(ESCAPING):
            assert errors_of_following(here / f"link{number}") == {errno.EPERM}
            assert error_of(partial((here / "new").symlink_to, target)) == errno.EPERM

    attack(attacked, server, steps)
    assert attacked.secret.read_text() == "secret"


def test_links_through_linked_folders_do_not_climb_out(attacked: Attacked) -> None:
    """Behind a link's name `..` is not the folder in which the name stands: none is allowed there."""
    server = FakeServer()
    add_folders(server.tree, "a/b/c")
    server.tree.add_file("deep", symlinks.encode(b"a/b/c"))
    server.tree.add_file("a\\b\\c\\up", symlinks.encode(b"../../.."))
    server.tree.add_file("a\\root", symlinks.encode(b".."))
    server.tree.add_file("through", symlinks.encode(b"deep/../../../secret"))
    server.tree.add_file("again", symlinks.encode(b"deep/up/a/root/../secret"))
    server.tree.add_file("twice", symlinks.encode(b"a/root/deep/up/good"))
    server.tree.add_file("good", b"content")

    def steps(here: Path) -> None:
        assert (here / "twice").read_bytes() == b"content"
        assert os.path.samefile(here / "deep" / "up", here)
        for name in "through", "again":
            assert error_of((here / name).read_bytes) == errno.EPERM

    attack(attacked, server, steps)


def test_a_link_that_is_said_to_be_in_two_places_climbs_only_as_high_as_the_higher_one_may(
    attacked: Attacked,
) -> None:
    """The kernel still knows the higher one, and follows it from there, when the server calls it gone."""
    server = FakeServer()
    link = server.tree.add_file("link", symlinks.encode(b"../secret"))
    add_folders(server.tree, "a/b").children["link"] = link

    def steps(here: Path) -> None:
        (here / "link").lstat()
        (here / "a" / "b" / "link").lstat()
        assert errors_of_following(here / "link") == {errno.EPERM}

    attack(attacked, server, steps, "actimeo=60")
    assert attacked.secret.read_text() == "secret"


def test_with_symlinks_all_the_server_is_trusted_with_links(attacked: Attacked) -> None:
    server = FakeServer()
    server.tree.add_file("link", symlinks.encode(b"../secret"))

    def steps(here: Path) -> None:
        assert (here / "link").read_text() == "secret"
        (here / "new").symlink_to("/etc/passwd")
        assert os.readlink(here / "new") == "/etc/passwd"

    attack(attacked, server, steps, "symlinks=all")


def test_with_symlinks_none_links_are_files(attacked: Attacked) -> None:
    server = FakeServer()
    content = symlinks.encode(b"../secret")
    server.tree.add_file("link", content)

    def steps(here: Path) -> None:
        assert (here / "link").read_bytes() == content
        assert error_of(lambda: (here / "new").symlink_to("link")) == errno.EPERM

    attack(attacked, server, steps, "symlinks=none")


def test_a_man_in_the_middle_of_the_negotiation_fails_the_mount(attacked: Attacked) -> None:
    """One sentence, mount(8)'s exit code for that, and nothing on the mount point."""

    def no_signing(response: NegotiateResponse) -> None:
        response.security_mode = 0

    async def mounting(dialect: Dialect) -> subprocess.CompletedProcess[bytes]:
        async with (
            running(FakeServer(dialect=dialect)) as server,
            in_the_middle(server.port, down=choosing(no_signing)) as port,
        ):
            given = f"port={port},credentials={attacked.credentials}"
            command = [sys.executable, "-m", "smbmount", "//127.0.0.1/data", str(attacked.path)]
            return await trio.run_process(
                [*command, "-o", given],
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                capture_stderr=True,
                check=False,
            )

    for dialect, words in (
        (Dialect.SMB_3_1_1, b"the log-on was altered on the way"),
        (Dialect.SMB_3_0_2, b"somebody between client and server altered the negotiation"),
    ):
        done = trio.run(mounting, dialect)
        assert done.returncode == 32
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert topmost_mount(str(attacked.path)) is None
