"""Mounts through a real domain's distributed tree, by ticket: what programs see and live through."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.mount.test_control import ctl
from tests.support.domain import HOST
from tests.support.domain_tree import DOMAIN_NAME, FOREIGN, DomainTree
from tests.support.member import Member
from tests.support.mounting import Mount
from tests.support.server import ThrowAwayServer
from tests.support.tools import background, digest, errno_of, noise, python_child, wait_until

pytestmark = pytest.mark.deadline(120)

_LIFETIME: Final = 10
"""Seconds of tickets that a test outlives."""

_LOST: Final = {errno.ESTALE, errno.EIO}
"""What a program may get for a file that was open on a server that is gone."""

Mounter = Callable[..., Mount]
"""`mounter("host/dfs/link", "sec=krb5p")` mounts it, with the ticket of a cache."""


class _Named:
    """What a mount has to know of the place that a test names in full."""

    def __init__(self, tree: DomainTree, host: str) -> None:
        self._tree = tree
        self._host = host
        self.port = tree.port

    @property
    def credentials_file(self) -> Path:
        return self._tree.domain.credentials_file

    def unc(self, share: str = "data") -> str:
        return f"//{self._host}/{share}"

    def smbstatus(self, *arguments: str) -> str:
        return self._tree.domain.smbstatus(*arguments)


@pytest.fixture(scope="module")
def cache(_domain_tree: DomainTree, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cache with a ticket of the user."""
    return _domain_tree.domain.kinit(tmp_path_factory.mktemp("tickets") / "cache")


@dataclass(frozen=True)
class Ground:
    """A test's own folder, in the root of the tree and on both members.

    In the root it has the links `one` and `two` to the members' folders, and to either `both`, the first
    before the second, and `back`.
    """

    tree: DomainTree
    name: str

    @property
    def first(self) -> Path:
        """Its folder on the first member."""
        return self.tree.first.share_path() / self.name

    @property
    def second(self) -> Path:
        """Its folder on the second member."""
        return self.tree.second.share_path() / self.name

    def on(self, member: Member) -> str:
        """How a link names its folder on a member."""
        return self.tree.target(member, f"data\\{self.name}")

    def link(self, name: str, *targets: str, server: Member | None = None) -> None:
        """Make one more link in its folder of the root, or of a member's own root."""
        self.tree.link(f"{self.name}/{name}", *targets, server=server)


@pytest.fixture
def ground(domain_tree: DomainTree) -> Ground:
    """That of this test."""
    ground = Ground(domain_tree, uuid.uuid4().hex[:12])
    for folder, member in ((ground.first, domain_tree.first), (ground.second, domain_tree.second)):
        folder.mkdir()
        member.adopt(folder)
    first, second = ground.on(domain_tree.first), ground.on(domain_tree.second)
    ground.link("one", first)
    ground.link("two", second)
    ground.link("both", first, second)
    ground.link("back", second, first)
    return ground


@pytest.fixture
def mounter(ground: Ground, tmp_path: Path, cache: str) -> Iterator[Mounter]:
    with ExitStack() as stack:

        def make(
            folder: str,
            *options: str,
            host: str = DOMAIN_NAME,
            share: str = "dfs",
            tickets: str = cache,
            password: bool = False,
        ) -> Mount:
            mountpoint = tmp_path / f"mnt{len(list(tmp_path.glob('mnt*')))}"
            mountpoint.mkdir()
            return stack.enter_context(
                Mount(
                    _Named(ground.tree, host),
                    mountpoint,
                    share=share,
                    folder=f"{ground.name}/{folder}".rstrip("/"),
                    options=options,
                    ticket=not password,
                    environ=ground.tree.environ(tickets),
                )
            )

        yield make


def protection(server: ThrowAwayServer, share: str) -> set[tuple[str, str]]:
    """How the sessions that use a share are encrypted and signed, as its server says."""
    rows = (line.split() for line in server.smbstatus("-S").splitlines())
    return {(row[-2], row[-1]) for row in rows if row and row[0] == share}


def assert_protected(kind: str, *places: tuple[ThrowAwayServer, str]) -> None:
    """What `sec=` promises holds at each of the servers."""
    for server, share in places:
        found = protection(server, share)
        assert found, f"{server.address}: nobody uses {share}"
        for encryption, signing in found:
            assert encryption.startswith("AES-") if kind == "krb5p" else signing.startswith("AES-"), found


# By ticket


@pytest.mark.parametrize("kind", ["krb5", "krb5i", "krb5p"])
def test_a_folder_behind_a_link_at_any_depth(ground: Ground, mounter: Mounter, kind: str) -> None:
    deep = ground.second / "sub/folder/deep"
    deep.mkdir(parents=True)
    ground.tree.second.adopt(ground.second)
    for host, folder in ((DOMAIN_NAME, "two"), (HOST, "back/sub"), (DOMAIN_NAME, "two/sub/folder/deep")):
        mount = mounter(folder, f"sec={kind}", host=host)
        (mount.path / folder.replace("/", "-")).write_text(host)
        assert_protected(kind, (ground.tree.second, "data"))
        code, output, complaint = ctl("dfs", mount.path)
        assert (code, complaint) == (0, "")
        assert f"  * \\\\{ground.tree.second.name}\\data\\{ground.name}" in output
    assert (ground.second / "two").read_text() == DOMAIN_NAME
    assert (ground.second / "sub/back-sub").read_text() == HOST
    assert (deep / "two-sub-folder-deep").read_text() == DOMAIN_NAME


@pytest.mark.parametrize("kind", ["krb5i", "krb5p"])
def test_links_are_crossed_and_each_hop_is_protected(ground: Ground, mounter: Mounter, kind: str) -> None:
    """From the domain's root to the members, and to a member's own root that leads to the other member."""
    tree = ground.tree
    ground.link("inter", tree.target(tree.first, f"dfs\\{ground.name}"))
    ground.link("on", ground.on(tree.second), server=tree.first)
    mount = mounter("", f"sec={kind}")
    (mount.path / "own").write_text("the controller's")
    (mount.path / "one/file").write_text("first")
    (mount.path / "inter/on/file").write_text("second")
    assert (ground.first / "file").read_text() == "first"
    assert (mount.path / "two/file").read_text() == (mount.path / "back/file").read_text() == "second"
    assert errno_of(lambda: os.rename(mount.path / "one/file", mount.path / "two/other")) == errno.EXDEV
    subprocess.run(["mv", mount.path / "one/file", mount.path / "two/moved"], check=True, timeout=30)
    assert (ground.second / "moved").read_text() == "first"
    assert_protected(kind, (tree.domain, "dfs"), (tree.first, "dfs"), (tree.first, "data"))
    assert_protected(kind, (tree.second, "data"))
    standalone = mounter("on", f"sec={kind}", host=tree.first.name)
    assert (standalone.path / "moved").read_text() == "first"


# Whose password


def test_a_password_is_sent_to_hosts_of_the_domain_alone(ground: Ground, mounter: Mounter) -> None:
    (ground.first / "here").write_text("first")
    ground.link("abroad", f"{FOREIGN}\\data\\{ground.name}")
    mount = mounter("", "sec=ntlmssp", password=True)
    mount.expect_log("the link .*abroad cannot be followed: ")
    assert (mount.path / "one/here").read_text() == "first"
    assert errno_of(lambda: os.listdir(mount.path / "abroad")) == errno.EACCES
    assert f"dfs_hosts={FOREIGN}" in mount.log_text()
    allowed = mounter("", "sec=ntlmssp", f"dfs_hosts={FOREIGN}", password=True)
    assert (allowed.path / "abroad/here").read_text() == "first"


# Targets that die

_COPY_ON: Final = """
import os, random, sys
folder = sys.argv[1]
for number in range(100_000):
    content = random.Random(number).randbytes(300_000)
    try:
        with open(f"{folder}/{number}", "xb", buffering=0) as file:
            file.write(content[:100_000])
            os.fsync(file)
            print("begun", flush=True)
            sys.stdin.readline()
            file.write(content[100_000:])
            os.fsync(file)
    except OSError as error:
        print(error.errno, flush=True)
    else:
        print(0, flush=True)
    sys.stdin.readline()
"""
"""Makes one file after the other, and says of each what became of it; twice for each it waits for a word."""


@pytest.mark.parametrize("place", ["", "both"], ids=["crossed", "mounted"])
def test_targets_die_one_after_the_other_while_files_are_copied(
    ground: Ground, mounter: Mounter, place: str
) -> None:
    """The file that is being copied is lost; the next ones are at the other target, whole."""
    first, second = ground.tree.first, ground.tree.second
    mount = mounter(place, "sec=krb5i")
    mount.expect_log("is lost: |is replaced by|is back after|was open on a server that another has replaced")
    mount.expect_log("could not be written|cannot be told")
    copier = python_child(_COPY_ON, mount.path if place else mount.path / "both", cwd=ground.tree.domain.base)
    errors: list[int] = []

    def copied_to(folder: Path, meanwhile: Callable[[], object] = lambda: None) -> bool:
        """Copy one more file, and see whether it is there."""
        word = copier.hear(60)
        if word == "begun":
            meanwhile()
            copier.say("")
            word = copier.hear(60)
        copier.say("")
        errors.append(int(word))
        return not errors[-1] and (folder / str(len(errors) - 1)).exists()

    with background([copier]):
        assert [copied_to(ground.first) for _ in range(3)] == [True] * 3
        assert not copied_to(ground.first, first.stop_service)
        wait_until(lambda: copied_to(ground.second), "a file on the second", 30)
        first.resume_service()
        # Nobody moves back while the other lives.
        assert [copied_to(ground.second) for _ in range(3)] == [True] * 3
        assert not copied_to(ground.second, second.stop_service)
        wait_until(lambda: copied_to(ground.first), "a file on the first again", 30)
    assert set(errors) == {0, *_LOST.intersection(errors)}
    assert len(errors) - errors.count(0) == 2
    for number, error in enumerate(errors):
        copies = [folder / str(number) for folder in (ground.first, ground.second)]
        contents = [copy.read_bytes() for copy in copies if copy.exists()]
        assert error or contents == [random.Random(number).randbytes(300_000)]


# Tickets that end

_COPY_SLOWLY: Final = """
import os, sys, time
source, target, end = sys.argv[1], sys.argv[2], float(sys.argv[3])
pieces = os.path.getsize(source) // (1 << 20)
with open(source, "rb", buffering=0) as there, open(target, "xb", buffering=0) as here:
    for piece in range(pieces):
        here.write(there.read(1 << 20))
        os.fsync(here)
        time.sleep(max(0.0, end - time.time()) / (pieces - piece))
    print("copied", flush=True)
"""
"""Copies a file so that it takes until a certain time."""


def test_a_copy_outlives_the_tickets_of_every_hop(ground: Ground, mounter: Mounter, tmp_path: Path) -> None:
    """From one member to the other, while a file is open on the controller, and without a word in the log."""
    tree = ground.tree
    cache = tree.domain.kinit(tmp_path / "cache")
    (ground.first / "source").write_bytes(noise(32 << 20, "tickets"))
    for host in (HOST, tree.first.name, tree.second.name):
        end = tree.domain.get_service_ticket(cache, _LIFETIME, host)
    mount = mounter("", "sec=krb5i", tickets=cache)
    with (mount.path / "own").open("wb", buffering=0) as own:
        own.write(b"before")
        places = (mount.path / "one/source", mount.path / "two/target")
        copier = python_child(_COPY_SLOWLY, *places, str(end + 1), cwd=tree.domain.base)
        with background([copier]):
            assert copier.hear(60) == "copied"
        assert time.time() > end
        own.write(b" and after")
        os.fsync(own)
    assert digest(ground.second / "target") == digest(ground.first / "source")
    assert (tree.domain.share_path("dfs") / ground.name / "own").read_bytes() == b"before and after"
    trips = mount.statistics()["trips"]
    assert trips["NEGOTIATE"] == 1
    # The first of them only learnt the controller's name.
    assert trips["SESSION_SETUP"] == 3


def test_a_lost_connection_to_the_controller_is_made_anew(ground: Ground, mounter: Mounter) -> None:
    """By the domain's name, once more; what is open there comes back, and what is behind links goes on."""
    domain = ground.tree.domain
    mount = mounter("", "sec=krb5p")
    mount.expect_log("is lost: |is back after")
    (mount.path / "one/file").write_text("before")
    with (mount.path / "own").open("wb", buffering=0) as own, (mount.path / "one/file").open("a") as file:
        own.write(b"before")
        os.fsync(own)
        for row in map(str.split, domain.smbstatus("-S").splitlines()):
            if row and row[0] == "dfs":
                os.kill(int(row[1]), signal.SIGKILL)
        own.write(b" and after")
        os.fsync(own)
        file.write(" and after")
    assert (domain.share_path("dfs") / ground.name / "own").read_text() == "before and after"
    assert (ground.first / "file").read_text() == "before and after"
    assert mount.statistics()["trips"]["NEGOTIATE"] > 1
    assert_protected("krb5p", (domain, "dfs"))
    assert (mount.path / "two").is_dir()


# What it costs


def test_what_a_mount_through_the_namespace_costs(ground: Ground, mounter: Mounter) -> None:
    """A log-on at the controller, with a question who it is, its share, and one question more."""
    for number in range(3):
        (ground.first / str(number)).write_text("x" * 1000)
    ground.tree.first.adopt(ground.first)

    def costs(mount: Mount) -> tuple[Counter[str], Counter[str]]:
        """Of the mount, and of work in it."""
        mounted = Counter(mount.statistics()["trips"])
        assert sorted(os.listdir(mount.path)) == ["0", "1", "2"]
        for name in "0123":
            assert errno_of((mount.path / name).read_text) == (errno.ENOENT if name == "3" else 0)
        (mount.path / "3").write_text("new")
        (mount.path / "3").unlink()
        return mounted, Counter(mount.statistics()["trips"]) - mounted

    direct = costs(mounter("", "sec=krb5i", host=ground.tree.first.name, share="data"))
    through = costs(mounter("one", "sec=krb5i"))
    assert through[1] == direct[1]
    extra = {"NEGOTIATE": 1, "SESSION_SETUP": 2, "TREE_CONNECT": 1, "TREE_CONNECT+IOCTL": 1, "LOGOFF": 1}
    assert through[0] - direct[0] == Counter(extra)
    assert not direct[0] - through[0]

    whole = mounter("", "sec=krb5i")
    assert (whole.path / "one/0").read_text()
    before = whole.statistics()["trips"]
    assert (whole.path / "one/1").read_text()
    (whole.path / "one/made").mkdir()
    assert sorted(os.listdir(whole.path / "one")) == ["0", "1", "2", "made"]
    assert whole.statistics()["trips"] == before
