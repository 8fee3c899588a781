"""Rows 2 and 9 of the table of faults: the line is cut at each message of a fixed script.

Each time another message is the last that passes, passes by half, or does not pass. The script must not
notice: every call succeeds, and what it leaves is what it leaves on a good line.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.support.factories import MountFactory, SambaFactory
from tests.support.proxy import Cut, Heal, Loss, Place, ProxyProcess, Way
from tests.support.tools import digest, noise

pytestmark = pytest.mark.deadline(300)

LARGE: Final = noise(300_000, "large")
TOLD: Final = (Loss.RESET, Loss.END)
SILENT: Final = (Loss.HOLE,)


def play(here: Path) -> None:
    """What programs do with files: each call is one that must not be done twice, or not at all."""
    here.mkdir()
    (here / "small").write_bytes(b"small" * 200)
    (here / "folder").mkdir()
    (here / "folder" / "large").write_bytes(LARGE)
    (here / "small").rename(here / "folder" / "moved")
    with os.fdopen(os.open(here / "open", os.O_CREAT | os.O_EXCL | os.O_RDWR), "r+b", buffering=0) as file:
        file.write(b"one")
        os.fsync(file.fileno())
        file.write(b"two")
        file.truncate(5)
    with (here / "open").open("ab") as file:
        file.write(b"append")
    os.link(here / "open", here / "hard")
    (here / "link").symlink_to("open")
    assert (here / "link").read_bytes() == b"onetwappend"
    assert sorted(os.listdir(here)) == ["folder", "hard", "link", "open"]
    (here / "gone").touch()
    (here / "gone").unlink()
    (here / "inner").mkdir()
    (here / "inner").rmdir()
    (here / "open").chmod(0o444)
    os.utime(here / "folder" / "moved", (5, 5))
    (here / "folder" / "moved").replace(here / "hard")
    os.setxattr(here / "folder" / "large", "user.note", b"value")
    assert os.getxattr(here / "folder" / "large", "user.note") == b"value"
    (here / "folder").rename(here / "renamed")
    assert (here / "renamed" / "large").read_bytes() == LARGE


def result(there: Path) -> dict[str, tuple[int, str]]:
    """Path → mode and content of everything the script left on the server."""
    paths = sorted(there.rglob("*"))
    return {
        f"{path.relative_to(there)}": (path.stat().st_mode, digest(path) if path.is_file() else "")
        for path in paths
    }


def cuts(up: int, down: int, step: int, losses: Sequence[Loss]) -> Iterator[Cut]:
    """One for every message of the script, or every so many, each of another kind than the one before."""
    kinds = itertools.cycle(itertools.product(Place, losses))
    for way, count in ((Way.TO_SERVER, up), (Way.TO_CLIENT, down)):
        for number in range(1, count + 1, step):
            place, loss = next(kinds)
            yield Cut(way, number, place, loss)


@pytest.mark.parametrize(
    ("durable", "step", "losses"),
    [(True, 1, TOLD), (False, 4, TOLD), (True, 13, SILENT)],
    ids=["durable", "by path", "silent"],
)
def test_fault_09_line_is_cut_at_each_message(
    samba_factory: SambaFactory,
    mount_factory: MountFactory,
    durable: bool,
    step: int,
    losses: Sequence[Loss],
) -> None:
    server = samba_factory(global_options={"durable handles": "yes" if durable else "no"})
    with ProxyProcess((server.address, server.port)) as proxy:
        mount = mount_factory(server, options=[f"port={proxy.port}"])
        mount.expect_log("the connection to .* is (lost|back)")
        before = proxy.counts()
        play(mount.path / "good line")
        after = proxy.counts()
        expected = result(server.share_path() / "good line")
        assert len(expected) == 5
        up = after.to_server.delivered - before.to_server.delivered
        down = after.to_client.delivered - before.to_client.delivered
        assert min(up, down) > 30
        made = 0
        for cut in cuts(up, down, step, losses):
            folder = f"{cut.way.name} {cut.message} {cut.place.name} {cut.loss.name}"
            proxy.tell(cut)
            play(mount.path / folder)
            made = proxy.tell(Heal()).cuts
            assert result(server.share_path() / folder) == expected, folder
        # The last messages of some runs need not come: what was cached on the good line may be cached again.
        assert made > 0.9 * len(list(cuts(up, down, step, losses)))
        mount.unmount()


def test_fault_09_symbolic_link_is_made_on_a_line_that_falls_silent(
    samba_factory: SambaFactory, mount_factory: MountFactory
) -> None:
    """The loss is noticed after four seconds; what the link holds tells that it is ours."""
    server = samba_factory()
    with ProxyProcess((server.address, server.port)) as proxy:
        mount = mount_factory(server, options=[f"port={proxy.port}", "echo_interval=2"])
        mount.expect_log("the connection to .* is (lost|back)")
        # The name is known to be free, so that the next message is the one that makes the link.
        assert os.listdir(mount.path) == []
        assert not os.path.lexists(mount.path / "link")
        proxy.tell(Cut(Way.TO_CLIENT, 1, Place.BEFORE, Loss.HOLE))
        (mount.path / "link").symlink_to("somebody@somewhere")
        assert proxy.counts().cuts == 1
        assert os.readlink(mount.path / "link") == "somebody@somewhere"
        assert os.listdir(server.share_path()) == ["link"]
        mount.unmount()
