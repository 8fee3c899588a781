"""Two mounts of one folder change it in turn, at random; each has to see what the other did.

One operation at a time: what a mount closes, renames or removes is seen by the next open of either. Names
that come and go are believed for `actimeo`, which is 0 here.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.factories import MountFactory
from tests.support.samba import SambaServer

pytestmark = pytest.mark.deadline(120)

NAMES = [f"file-{number}" for number in range(6)]
STEPS = 120


class Model:
    """The folder as it has to be, and the two mounts that change it."""

    def __init__(self, mounts: list[Path], seed: int, patience: float = 0.0) -> None:
        self.mounts = mounts
        self.patience = patience
        self.random = random.Random(seed)
        self.files: dict[str, bytes] = {}
        self.story: list[str] = []

    def step(self) -> None:
        """Change something through one mount, then look at everything through one of them."""
        where = self.random.randrange(2)
        name = self.random.choice(NAMES)
        change = self.random.choice(CHANGES)
        self.story.append(f"mount {where}: {change.__name__} {name}")
        change(self, self.mounts[where], name)
        self.look(self.random.randrange(2))

    def look(self, where: int) -> None:
        """Look through one mount, for up to `patience` seconds until it is right."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                self.compare(where)
            except (AssertionError, FileNotFoundError):
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def compare(self, where: int) -> None:
        """Compare names, sizes and contents as one mount shows them."""
        here = self.mounts[where]
        shown = {name: (here / name).read_bytes() for name in sorted(os.listdir(here))}
        sizes = {name: (here / name).stat().st_size for name in shown}
        told = f"mount {where} after\n" + "\n".join(self.story[-12:])
        assert sorted(shown) == sorted(self.files), told
        for name, content in shown.items():
            right = self.files[name]
            assert content == right, f"{name}: {first_difference(content, right)}; {told}"
            assert sizes[name] == len(right), f"{name}; {told}"

    def content(self) -> bytes:
        """Something new: small, empty, or more than comes with an open."""
        size = self.random.choice([0, 1, 100, 4096, 70_000, 300_000])
        return self.random.randbytes(size)


def first_difference(shown: bytes, right: bytes) -> str:
    """Where two contents part, in words."""
    pairs = enumerate(zip(shown, right, strict=False))
    index = next((index for index, (one, other) in pairs if one != other), min(len(shown), len(right)))
    return f"{len(shown)} bytes for {len(right)}, right up to {index}"


def write(model: Model, here: Path, name: str) -> None:
    model.files[name] = model.content()
    (here / name).write_bytes(model.files[name])


def overwrite_a_part(model: Model, here: Path, name: str) -> None:
    old = model.files.get(name, b"")
    offset = model.random.randint(0, len(old))
    data = model.random.randbytes(500)
    with open(os.open(here / name, os.O_RDWR | os.O_CREAT), "r+b") as file:
        file.seek(offset)
        file.write(data)
    model.files[name] = old[:offset] + data + old[offset + len(data) :]


def append(model: Model, here: Path, name: str) -> None:
    data = model.random.randbytes(100)
    with (here / name).open("ab") as file:
        file.write(data)
    model.files[name] = model.files.get(name, b"") + data


def save_as_an_editor(model: Model, here: Path, name: str) -> None:
    model.files[name] = model.content()
    (here / "new").write_bytes(model.files[name])
    (here / "new").rename(here / name)


def truncate(model: Model, here: Path, name: str) -> None:
    if name in model.files:
        size = model.random.randint(0, 2 * len(model.files[name]))
        os.truncate(here / name, size)
        model.files[name] = model.files[name][:size].ljust(size, b"\0")


def rename(model: Model, here: Path, name: str) -> None:
    target = model.random.choice(NAMES)
    if name in model.files and target != name:
        (here / name).rename(here / target)
        model.files[target] = model.files.pop(name)


def remove(model: Model, here: Path, name: str) -> None:
    if model.files.pop(name, None) is not None:
        (here / name).unlink()


def read_again_and_again(model: Model, here: Path, name: str) -> None:
    for _ in range(3):
        if name in model.files:
            assert (here / name).read_bytes() == model.files[name]


CHANGES: list[Callable[[Model, Path, str], None]] = [
    write,
    overwrite_a_part,
    append,
    save_as_an_editor,
    truncate,
    rename,
    remove,
    read_again_and_again,
]


@pytest.mark.parametrize("options", [(), ("cache=none",), ("closetimeo=0",), ("vers=2.1",), ("vers=2.0",)])
def test_each_mount_sees_what_the_other_did(
    samba: SambaServer, share_path: Path, mount_factory: MountFactory, options: tuple[str, ...]
) -> None:
    mounts = [
        mount_factory(samba, folder=share_path.name, options=["actimeo=0", *options]).path for _ in range(2)
    ]
    model = Model(mounts, seed=6)
    for _ in range(STEPS):
        model.step()
    for where in range(2):
        model.look(where)


@pytest.mark.parametrize("seed", range(4))
def test_each_mount_sees_what_the_other_did_under_leases_of_folders(
    samba_backports: SambaServer, backports_share_path: Path, mount_factory: MountFactory, seed: int
) -> None:
    """A server does not wait until a break of a folder's lease has arrived: soon, not at once."""
    mounts = [
        mount_factory(samba_backports, folder=backports_share_path.name, options=["actimeo=0"]).path
        for _ in range(2)
    ]
    model = Model(mounts, seed, patience=1.0)
    for _ in range(STEPS):
        model.step()
    for where in range(2):
        model.look(where)
