"""The work that every peer does, what it needs on the server, and how one sees that it was done right."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.benchmarks.peers.driver import MIB, SMALL, content_of, name_of, offsets

_FILES_PER_FOLDER: Final = 25


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each: bytes of the large file, entries of the long listing, small files, random reads."""

    stream: int = 256 * MIB
    entries: int = 5000
    files: int = 500
    reads: int = 500


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the table.

    `action` is one of `driver.ACTIONS`; `path`, relative to the work's folder, is what it works on, and
    `arguments` are its others. `proof` is what it has to report (None: nothing); `check` looks at the
    work's folder on the server afterwards and returns what is wrong there, or "". `memory` is how many bytes
    of page cache it may take: as much is at hand before. A step that is not `synced` may leave the rest of
    its work for a while; what it then takes counts as time of the step.
    """

    title: str
    action: str
    path: str
    arguments: Mapping[str, int | str] = field(default_factory=dict)
    source_is_remote: bool = False
    memory: int = 0
    synced: bool = False
    proof: object = None
    check: Callable[[Path], str] = lambda folder: ""


@dataclass(frozen=True, slots=True)
class Work:
    """Steps that one client does one after the other, having seen nothing of the folder before.

    `prepare` fills the folder, which is new, on the server.
    """

    name: str
    prepare: Callable[[Path], None]
    steps: tuple[Step, ...]


class Material:
    """What the works take from this machine: a large file, an archive, a git repository, all in `folder`."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.sizes = sizes
        self.large = folder / "large.bin"
        self.archive = folder / "tree.tar"
        self.repository = folder / "repository"
        block = os.urandom(MIB)
        with self.large.open("wb") as file:
            for number in range(sizes.stream // MIB):
                file.write(number.to_bytes(8, "big") + block[8:])
        make_tree(folder / "tree", sizes.files)
        self.tree_digest = digest_of_tree(folder / "tree")
        with tarfile.open(self.archive, "w") as archive:
            for entry in sorted((folder / "tree").iterdir()):
                archive.add(entry, entry.name, filter=_owned_by_whoever_unpacks)
        self._make_repository()

    def _make_repository(self) -> None:
        make_tree(self.repository, self.sizes.files // 5)
        self.repository_digest = digest_of_tree(self.repository)
        self._git("init", "--quiet")
        for number, folder in enumerate(sorted(path.name for path in self.repository.iterdir())):
            if folder != ".git":
                self._git("add", folder)
                self._git("commit", "--quiet", "--message", f"folder {number}")

    def _git(self, *arguments: str) -> None:
        who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
        subprocess.run(["git", "-C", str(self.repository), *who, *arguments], check=True, capture_output=True)


def works(material: Material) -> list[Work]:
    """All works, in the order of the table."""
    return [*_streams(material), *_folders(material.sizes), *_small_files(material.sizes), *_trees(material)]


def _streams(material: Material) -> list[Work]:
    size = material.sizes.stream
    data = material.large.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    places = offsets(size, material.sizes.reads)
    random_digest = hashlib.sha256(b"".join(data[place : place + SMALL] for place in places)).hexdigest()

    def large(folder: Path) -> None:
        (folder / "large.bin").write_bytes(data)

    def written(folder: Path) -> str:
        right = (folder / "written.bin").read_bytes() == data
        return "" if right else "the file on the server differs"

    # Once for the pages of the file, once for the buffers on the way.
    memory = 2 * size
    whole = {"size": size}
    some = {"size": size, "count": material.sizes.reads}
    return [
        Work(
            "sequential read",
            large,
            (
                Step("sequential read cold", "read", "large.bin", whole, memory=memory, proof=digest),
                Step("sequential read again", "read", "large.bin", whole, proof=digest),
            ),
        ),
        Work(
            "write + fsync",
            _nothing,
            (
                Step(
                    "write + fsync",
                    "write",
                    "written.bin",
                    {"source": str(material.large)},
                    memory=memory,
                    check=written,
                    synced=True,
                ),
            ),
        ),
        Work(
            "random reads",
            large,
            (Step("random 4 KiB reads", "random_read", "large.bin", some, proof=random_digest),),
        ),
    ]


def _folders(sizes: Sizes) -> list[Work]:
    def many(folder: Path) -> None:
        for number in range(sizes.entries):
            (folder / name_of(number)).touch()

    def some(folder: Path) -> None:
        for number in range(sizes.files):
            (folder / name_of(number)).write_bytes(bytes(number))

    total = sum(range(sizes.files))
    return [
        Work(
            "ls -l",
            many,
            (
                Step("ls -l cold", "list_long", "", proof=sizes.entries),
                Step("ls -l again", "list_long", "", proof=sizes.entries),
            ),
        ),
        Work("stat", some, (Step("stat of cold names", "stat", "", {"count": sizes.files}, proof=total),)),
    ]


def _small_files(sizes: Sizes) -> list[Work]:
    count = {"count": sizes.files}
    wanted = {name_of(number): content_of(number) for number in range(sizes.files)}
    digest = hashlib.sha256(b"".join(wanted.values())).hexdigest()

    def filled(folder: Path) -> None:
        for name, content in wanted.items():
            (folder / name).write_bytes(content)

    def created(folder: Path) -> str:
        return _difference(folder, wanted)

    def renamed(folder: Path) -> str:
        return _difference(folder, {f"{name}.renamed": content for name, content in wanted.items()})

    def unlinked(folder: Path) -> str:
        return _difference(folder, {})

    return [
        Work(
            "small files read",
            filled,
            (
                Step("small files read cold", "small_read", "", count, proof=digest),
                Step("small files read again", "small_read", "", count, proof=digest),
            ),
        ),
        Work("create", _nothing, (Step("small files created", "create", "", count, check=created),)),
        Work("rename", filled, (Step("small files renamed", "rename", "", count, check=renamed),)),
        Work("unlink", filled, (Step("small files unlinked", "unlink", "", count, check=unlinked),)),
    ]


def _trees(material: Material) -> list[Work]:
    def tree(folder: Path) -> None:
        make_tree(folder / "source", material.sizes.files)

    def is_whole(where: str, digest: str) -> Callable[[Path], str]:
        return lambda folder: "" if digest_of_tree(folder / where) == digest else "the tree differs"

    def is_gone(folder: Path) -> str:
        return "the tree is still there" if (folder / "source").exists() else ""

    return [
        Work(
            "copytree",
            tree,
            (
                Step(
                    *("copytree", "copytree", "copy", {"source": "source"}),
                    source_is_remote=True,
                    check=is_whole("copy", material.tree_digest),
                ),
            ),
        ),
        Work("rmtree", tree, (Step("rmtree", "rmtree", "source", check=is_gone),)),
        Work(
            "git clone",
            _nothing,
            (
                Step(
                    *("git clone", "clone", "clone", {"source": str(material.repository)}),
                    check=is_whole("clone", material.repository_digest),
                ),
            ),
        ),
        Work(
            "untar",
            _nothing,
            (
                Step(
                    *("untar", "untar", "", {"source": str(material.archive)}),
                    check=is_whole("", material.tree_digest),
                ),
            ),
        ),
    ]


def make_tree(folder: Path, files: int) -> None:
    """Small files of 4 KiB in folders of 25 below `folder`, which is made."""
    for number in range(files):
        parent = folder / f"folder-{number // _FILES_PER_FOLDER:03}"
        parent.mkdir(parents=True, exist_ok=True)
        (parent / name_of(number)).write_bytes(content_of(number))


def digest_of_tree(folder: Path) -> str:
    """One digest over all names and contents below a folder, git's own files left out."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0] != ".git" and path.is_file():
            digest.update(f"{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _difference(folder: Path, wanted: Mapping[str, bytes]) -> str:
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    wrong = sum(found.get(name) != content for name, content in wanted.items())
    return "" if found == wanted else f"{len(found)} of {len(wanted)} files on the server, {wrong} wrong"


def _nothing(folder: Path) -> None:
    pass


def _owned_by_whoever_unpacks(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = os.geteuid()
    member.uname = member.gname = ""
    return member
