"""git works on a mount as on a disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.tools import Place, noise, run

Git = Callable[..., str]

MANY = 300
FEW = 40


@pytest.fixture
def git(place: Place, local: Path) -> Git:
    """`git("commit", …, cwd=folder)` by a made-up person with no settings of their own."""
    person = {
        "HOME": str(local),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A. U. Thor",
        "GIT_AUTHOR_EMAIL": "author@example.org",
        "GIT_COMMITTER_NAME": "C. O. Mitter",
        "GIT_COMMITTER_EMAIL": "committer@example.org",
        "GIT_TERMINAL_PROMPT": "0",
    }
    (local / ".gitconfig").write_text("[init]\n\tdefaultBranch = main\n[gc]\n\tauto = 0\n")

    def call(*arguments: str | os.PathLike[str], cwd: Path = place.path / "repository") -> str:
        return run("git", *arguments, cwd=cwd, env=person)

    return call


def _fill(path: Path, git: Git, files: int) -> None:
    """Make a repository with one commit of `files` files and a symbolic link."""
    git("init", "--quiet", path, cwd=path.parent)
    for index in range(files):
        folder = path / f"folder {index % 10}"
        folder.mkdir(exist_ok=True)
        (folder / f"{index}.txt").write_bytes(noise(50 + index, str(index)))
    (path / "link").symlink_to("folder 1/1.txt")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    assert git("status", "--porcelain") == ""
    assert len(git("ls-files").splitlines()) == files + 1


@pytest.fixture
def repository(place: Place, git: Git) -> Path:
    """A small repository on the mount."""
    path = place.path / "repository"
    _fill(path, git, FEW)
    return path


def test_branches_merges_and_rebases_of_many_files(place: Place, git: Git) -> None:
    repository = place.path / "repository"
    _fill(repository, git, MANY)
    git("checkout", "--quiet", "-b", "topic")
    (repository / "folder 0" / "0.txt").write_text("changed on the branch\n")
    (repository / "new").write_text("new\n")
    git("add", "new")
    git("commit", "--quiet", "-a", "-m", "topic")
    git("checkout", "--quiet", "main")
    assert not (repository / "new").exists()
    git("mv", "folder 1", "renamed")
    git("rm", "--quiet", "-r", "folder 2")
    git("commit", "--quiet", "-a", "-m", "renamed")
    git("merge", "--quiet", "-m", "merged", "topic")
    assert (repository / "folder 0" / "0.txt").read_text() == "changed on the branch\n"
    assert not (repository / "folder 2").exists()
    git("checkout", "--quiet", "-b", "side", "HEAD~1")
    (repository / "side").write_text("side\n")
    git("add", "side")
    git("commit", "--quiet", "-m", "side")
    git("rebase", "--quiet", "main")
    git("cherry-pick", "--allow-empty", "--keep-redundant-commits", "topic")
    git("reset", "--quiet", "--hard", "main")
    assert git("status", "--porcelain") == ""
    assert git("fsck", "--strict", "--full") == ""


def test_gc_repacks_and_nothing_is_lost(repository: Path, git: Git) -> None:
    for number in range(5):
        (repository / "counter").write_text(f"{number}\n")
        git("add", "counter")
        git("commit", "--quiet", "-m", f"{number}")
    before = git("rev-list", "--objects", "--all")
    git("gc", "--quiet", "--prune=now", "--aggressive")
    git("fsck", "--strict", "--full")
    assert git("rev-list", "--objects", "--all") == before
    assert git("count-objects").startswith("0 objects")
    git("reflog", "expire", "--expire=now", "--all")
    git("repack", "--quiet", "-a", "-d", "-f")
    git("checkout", "--quiet", "HEAD~3")
    assert (repository / "counter").read_text() == "1\n"
    assert git("status", "--porcelain") == ""


def test_clone_from_and_to_the_mount(place: Place, local: Path, repository: Path, git: Git) -> None:
    tip = git("rev-parse", "HEAD")
    for name, source, options in (
        (local / "copy", repository, ()),
        (place.path / "back", local / "copy", ("--no-local",)),
        (place.path / "hard linked", repository, ("--local",)),
        (place.path / "bare.git", local / "copy", ("--bare", "--no-local")),
    ):
        git("clone", "--quiet", *options, source, name, cwd=local)
        git("fsck", "--strict", cwd=name)
        assert git("rev-parse", "HEAD", cwd=name) == tip
    assert git("status", "--porcelain", cwd=place.path / "back") == ""
    assert git("status", "--porcelain", cwd=place.path / "hard linked") == ""
    (local / "copy" / "pushed").write_text("pushed\n")
    git("add", "pushed", cwd=local / "copy")
    git("commit", "--quiet", "-m", "pushed", cwd=local / "copy")
    git("push", "--quiet", place.path / "bare.git", "main", cwd=local / "copy")
    git("pull", "--quiet", "--ff-only", place.path / "bare.git", "main")
    assert (repository / "pushed").read_text() == "pushed\n"


def test_stash_clean_and_worktree(place: Place, repository: Path, git: Git) -> None:
    changed = repository / "folder 3" / "3.txt"
    original = changed.read_bytes()
    changed.write_text("not yet\n")
    (repository / "untracked").write_text("u\n")
    git("stash", "--quiet", "--include-untracked")
    assert changed.read_bytes() == original
    assert not (repository / "untracked").exists()
    git("stash", "pop", "--quiet")
    assert changed.read_text() == "not yet\n"
    git("clean", "--quiet", "-fdx")
    git("checkout", "--quiet", "--", ".")
    assert git("status", "--porcelain") == ""
    git("worktree", "add", "--quiet", "-b", "other", place.path / "tree")
    assert git("status", "--porcelain", cwd=place.path / "tree") == ""
    (place.path / "tree" / "there").write_text("there\n")
    git("add", "there", cwd=place.path / "tree")
    git("commit", "--quiet", "-m", "there", cwd=place.path / "tree")
    git("worktree", "remove", place.path / "tree")
    assert git("log", "--format=%s", "-1", "other") == "there\n"
    git("worktree", "prune")
    git("fsck", "--strict")


def test_the_index_lock_keeps_a_second_git_out(repository: Path, git: Git) -> None:
    (repository / ".git" / "index.lock").touch()
    (repository / "new").write_text("new\n")
    with pytest.raises(AssertionError, match=r"index\.lock"):
        git("add", "new")
    (repository / ".git" / "index.lock").unlink()
    git("add", "new")
    assert git("status", "--porcelain") == "A  new\n"
