"""Identity, names, look-up counts."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import FileAttributes, FileStat
from smbmount.vfs.attributes import DIRECTORY, FILE, SYMLINK
from smbmount.vfs.inodes import FIRST_OWN_NUMBER, Inode, InodeTable
from smbmount.vfs.listings import FolderWatch
from tests.unit.vfs.support import refused


def stat_of(file_id: int, *, directory: bool = False, created: int = 0, links: int = 1) -> FileStat:
    attributes = FileAttributes.DIRECTORY if directory else FileAttributes.NORMAL
    return FileStat(file_id, 0, 0, int(attributes), created, 0, 0, 0, number_of_links=links)


def new_table(*, trust: bool = True) -> InodeTable:
    return InodeTable(stat_of(5000, directory=True), trust_file_ids=trust)


def put(table: InodeTable, parent: Inode, name: str, stat: FileStat, kind: int = FILE) -> Inode:
    known = parent.children.get(name.encode())
    inode = table.identify(parent, stat, kind, known.inode if known else None)
    dentry = table.enter(parent, name.encode(), name, inode, 0.0)
    table.add_lookup(dentry.number)
    return inode


def put_folder(table: InodeTable, parent: Inode, name: str, file_id: int) -> Inode:
    return put(table, parent, name, stat_of(file_id, directory=True), DIRECTORY)


def test_the_servers_id_is_the_number() -> None:
    table = new_table()
    assert put(table, table.root, "a", stat_of(42)).number == 42
    assert table.root.number == 1


@pytest.mark.parametrize("file_id", [0, 1, (1 << 64) - 1])
def test_ids_that_mean_nothing_are_not_used(file_id: int) -> None:
    table = new_table()
    assert put(table, table.root, "a", stat_of(file_id)).number >= FIRST_OWN_NUMBER


def test_untrusted_ids_are_not_used_and_the_name_is_the_identity() -> None:
    table = new_table(trust=False)
    first = put(table, table.root, "a", stat_of(42))
    assert first.number >= FIRST_OWN_NUMBER
    assert put(table, table.root, "a", stat_of(43)) is first
    assert put(table, table.root, "b", stat_of(42)) is not first


def test_two_names_of_one_file_are_one_inode() -> None:
    table = new_table()
    one = put(table, table.root, "a", stat_of(42))
    assert put(table, put_folder(table, table.root, "d", 7), "b", stat_of(42)) is one
    assert len(one.names) == 2


def test_a_change_of_type_is_another_inode() -> None:
    table = new_table()
    file = put(table, table.root, "a", stat_of(42))
    folder = put_folder(table, table.root, "a", 42)
    link = put(table, table.root, "a", stat_of(42), SYMLINK)
    assert len({file.number, folder.number, link.number}) == 3
    assert table.root.children[b"a"].inode is link


def test_an_id_used_again_for_a_newer_file_is_another_inode() -> None:
    table = new_table()
    old = put(table, table.root, "a", stat_of(42, created=10**9))
    new = put(table, table.root, "b", stat_of(42, created=10**10))
    assert new is not old
    assert new.number >= FIRST_OWN_NUMBER
    assert put(table, table.root, "b", stat_of(42, created=10**10)) is new


def test_a_folder_that_is_open_keeps_its_identity_when_its_creation_time_moves() -> None:
    table = new_table()
    folder = put_folder(table, table.root, "a", 42)
    folder.directory_handles.append(FolderWatch())
    later = stat_of(42, directory=True, created=10**10)
    assert put(table, table.root, "a", later, DIRECTORY) is folder
    folder.directory_handles.clear()
    assert put(table, table.root, "a", later, DIRECTORY) is not folder


def test_an_id_is_free_again_after_the_file_was_unlinked() -> None:
    table = new_table()
    old = put(table, table.root, "a", stat_of(42))
    table.mark_unlinked(old)
    assert put(table, table.root, "b", stat_of(42)) is not old
    assert old.links == 0


def test_a_server_that_reuses_the_roots_or_a_parents_id_makes_no_circle() -> None:
    table = new_table()
    folder = put_folder(table, table.root, "d", 7)
    inner = put_folder(table, folder, "again", 7)
    rooted = put_folder(table, inner, "root", 5000)
    assert table.path(rooted) == "d\\again\\root"
    assert table.path(folder) == "d"


def test_an_id_learnt_later_keeps_the_number() -> None:
    table = new_table()
    inode = put(table, table.root, "a", stat_of(0))
    assert put(table, table.root, "a", stat_of(42)) is inode
    assert put(table, table.root, "b", stat_of(42)) is inode


def test_a_number_is_known_until_its_last_look_up_is_forgotten() -> None:
    table = new_table()
    inode = put(table, table.root, "a", stat_of(42))
    table.add_lookup(42)
    table.forget(42, 1)
    assert table[42] is inode
    table.forget(42, 1)
    with refused(errno.ESTALE):
        table[42]
    assert table.root.children == {}


def test_a_folder_stays_while_a_child_is_known() -> None:
    table = new_table()
    folder = put_folder(table, table.root, "d", 7)
    child = put(table, folder, "a", stat_of(42))
    table.forget(7, 1)
    assert table.path(child) == "d\\a"
    table.forget(42, 1)
    assert len(table) == 1


def test_forgetting_what_is_unknown_does_nothing() -> None:
    table = new_table()
    table.forget(99, 5)
    table.forget(1, 5)
    assert table[1] is table.root


def test_a_renamed_folder_takes_its_subtree_along() -> None:
    table = new_table()
    folder = put_folder(table, table.root, "d", 7)
    deep = put_folder(table, put_folder(table, folder, "e", 8), "f", 9)
    assert table.path(deep) == "d\\e\\f"
    other = put_folder(table, table.root, "o", 10)
    table.move(table.root.children[b"d"], other, b"new", "new")
    assert table.path(deep) == "o\\new\\e\\f"
    assert b"d" not in table.root.children
    assert deep.depth() == 4


def test_names_that_differ_by_case_have_numbers_of_their_own() -> None:
    table = new_table()
    inode = put(table, table.root, "File", stat_of(42))
    assert put(table, table.root, "FILE", stat_of(42)) is inode
    alias = table.root.children[b"FILE"]
    assert alias.number != 42
    assert table[alias.number] is inode
    assert inode.links == 1
    table.forget(alias.number, 1)
    assert b"FILE" not in table.root.children
    assert table[42] is inode


def test_a_file_without_a_name_has_no_path() -> None:
    table = new_table()
    inode = put(table, table.root, "a", stat_of(42))
    table.remove(table.root.children[b"a"])
    with refused(errno.ESTALE):
        table.path(inode)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "folder", "forget", "remove", "move", "unlink"]),
            st.integers(0, 6),
            st.integers(0, 6),
            st.integers(40, 46),
        ),
        max_size=60,
    )
)
def test_the_table_stays_whole(steps: list[tuple[str, int, int, int]]) -> None:
    table = new_table()
    counts: dict[int, int] = {}
    for step, where, what, file_id in steps:
        folders = [inode for inode in table if inode.kind == DIRECTORY and not inode.unlinked]
        parent = folders[where % len(folders)]
        dentries = list(parent.children.values())
        dentry = dentries[what % len(dentries)] if dentries else None
        if step in ("put", "folder"):
            kind = FILE if step == "put" else DIRECTORY
            put(table, parent, f"n{what}", stat_of(file_id, directory=kind == DIRECTORY), kind)
            number = parent.children[f"n{what}".encode()].number
            counts[number] = counts.get(number, 0) + 1
        elif step == "forget" and counts:
            number = sorted(counts)[what % len(counts)]
            table.forget(number, counts.pop(number))
        elif step == "remove" and dentry is not None:
            table.remove(dentry)
        elif step == "unlink" and dentry is not None and not dentry.inode.children:
            table.mark_unlinked(dentry.inode)
        elif step == "move" and dentry is not None:
            target = folders[what % len(folders)]
            if dentry.inode not in target.ancestors():
                table.move(dentry, target, b"m", "m")
        check(table, counts)
    for number, count in counts.items():
        table.forget(number, count)
    assert len(table) == 1


def check(table: InodeTable, counts: dict[int, int]) -> None:
    for number in counts:
        assert number in table[number].numbers
    for inode in table:
        for dentry in inode.names:
            assert dentry.parent.children[dentry.name] is dentry
            assert dentry.inode is inode
        for name, dentry in inode.children.items():
            assert dentry.parent is inode
            assert dentry.name == name
            assert dentry in dentry.inode.names
        assert len(list(inode.ancestors())) < 1000


def test_folders_of_any_depth_are_forgotten() -> None:
    table = new_table()
    folders = [table.root]
    for level in range(3000):
        folders.append(put(table, folders[-1], "d", stat_of(6000 + level, directory=True), DIRECTORY))
    assert sum(1 for _ in folders[-1].ancestors()) == 3001
    assert folders[-1].depth() == 3000
    for folder in folders[1:]:
        table.forget(folder.number, 1)
    assert len(table) == 1


def test_a_server_that_gives_two_folders_one_id_at_every_level_does_not_stop_the_mount() -> None:
    table = new_table()
    folder = table.root
    for level in range(200):
        for name in ("a", "b"):
            inode = put(table, folder, name, stat_of(6000 + level, directory=True), DIRECTORY)
        folder = inode
    assert sum(1 for _ in folder.ancestors()) == 201
    assert folder.depth() == 200
