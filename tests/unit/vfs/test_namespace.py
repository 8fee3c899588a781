"""Names come and go: lookup, mkdir, mknod, unlink, rmdir, link, symlink."""

from __future__ import annotations

import errno
import os
import stat

import pytest
import trio
import trio.testing

from engine import FileAttributes, Lease, OutcomeUnknown, error_from_status, ntstatus
from smbmount.vfs import symlinks
from smbmount.vfs.config import FileSystemConfig
from smbmount.vfs.filesystem import FileSystem
from tests.fakes.share import Call, FakeShare
from tests.unit.vfs.support import (
    ROOT,
    create,
    list_folder,
    lookup,
    mounted,
    open_file,
    refused,
    virtual_time,
)

READONLY = int(FileAttributes.READONLY)


@virtual_time
async def test_a_name_costs_one_round_trip_and_then_none_until_it_expires() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"12345")
        found = await lookup(fs, "a")
        assert (found.size, found.links, found.uid, stat.S_IFMT(found.mode)) == (5, 1, 1000, stat.S_IFREG)
        assert (found.attribute_timeout, found.entry_timeout) == (1.0, 1.0)
        await trio.sleep(0.6)
        again = await lookup(fs, "a")
        assert again.attribute_timeout == pytest.approx(0.4)
        assert share.count() == 1
        await trio.sleep(0.5)
        await lookup(fs, "a")
        assert share.count() == 2


@virtual_time
async def test_a_missing_name_is_enoent() -> None:
    async with mounted() as (share, fs):
        with refused(errno.ENOENT):
            await lookup(fs, "missing")
        assert share.count() == 1


@virtual_time
async def test_a_deleted_file_that_is_open_elsewhere_is_gone() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        file = share.open_elsewhere("a")
        await lookup(fs, "a")
        await fs.names.unlink(ROOT, b"a")
        with refused(errno.ENOENT):
            await lookup(fs, "a")
        file.close_later()
        assert not share.exists("a")


@virtual_time
async def test_many_names_of_one_folder_are_one_listing() -> None:
    async with mounted(FakeShare(batch_size=1000)) as (share, fs):
        for index in range(500):
            share.put(f"d\\{index}", bytes(index))
        for index in range(500):
            assert (await lookup(fs, f"d/{index}")).size == index
            with refused(errno.ENOENT):
                await lookup(fs, f"d/missing{index}")
        assert share.count() == 1 + 1 + 1, "the second name asked for lists the folder"
        assert share.count("scandir") == 1


@virtual_time
async def test_a_folder_too_large_to_list_is_asked_name_by_name() -> None:
    async with mounted(FakeShare(batch_size=11_000)) as (share, fs):
        for index in range(11_000):
            share.put(f"d\\{index}")
        for index in range(10):
            await lookup(fs, f"d/{index}")
            with refused(errno.ENOENT):
                await lookup(fs, f"d/missing{index}")
        assert share.count("scandir") == 1


@virtual_time
async def test_tasks_that_miss_together_list_once() -> None:
    async with mounted() as (share, fs):
        for index in range(50):
            share.put(f"d\\{index}")
        await lookup(fs, "d/0")
        async with trio.open_nursery() as nursery:
            for index in range(1, 50):
                nursery.start_soon(lookup, fs, f"d/{index}")
        assert share.count("scandir") == 1
        assert share.count("stat") == 2


@virtual_time
async def test_one_name_of_a_folder_never_lists_it() -> None:
    async with mounted() as (share, fs):
        share.put("d\\a")
        for _ in range(5):
            await lookup(fs, "d/a")
            await trio.sleep(1.1)
        assert share.count("scandir") == 0


@virtual_time
async def test_tasks_that_ask_for_one_name_ask_once() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(lookup, fs, "a")
        assert share.count() == 1
        await trio.sleep(2)

        async def look_in_vain() -> None:
            with refused(errno.ENOENT):
                await lookup(fs, "missing")

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(look_in_vain)
        assert share.count() == 2


@virtual_time
async def test_a_folder_that_must_not_be_listed_is_asked_name_by_name() -> None:
    async with mounted() as (share, fs):
        for index in range(10):
            share.put(f"d\\{index}", bytes(index))
        share.fail_next("scandir", ntstatus.STATUS_ACCESS_DENIED)
        for index in range(10):
            assert (await lookup(fs, f"d/{index}")).size == index
        assert share.count("scandir") == 1


@virtual_time
async def test_files_made_in_a_large_folder_list_it_rarely() -> None:
    async with mounted(FakeShare(batch_size=10_000)) as (share, fs):
        for index in range(8_000):
            share.put(f"{index}")
        for index in range(300):
            with refused(errno.ENOENT):
                await lookup(fs, f"new{index}")
            handle, _ = await create(fs, f"new{index}")
            await fs.files.release(handle)
            await trio.sleep(0.01)
        assert share.count("scandir") <= 4, "once in a second at most"
        assert share.count("stat") <= 40


@virtual_time
async def test_a_listing_that_our_changes_overtake_is_used_for_the_other_names() -> None:
    async with mounted() as (share, fs):
        for name in ("a", "b", "c"):
            share.put(name)
        async with trio.open_nursery() as nursery:
            await lookup(fs, "a")
            with share.hold("scandir"):
                nursery.start_soon(lookup, fs, "b")
                await trio.testing.wait_all_tasks_blocked()
                await fs.names.unlink(ROOT, b"c")
                share.put("c", b"theirs")
        share.calls.clear()
        with refused(errno.ENOENT):
            await lookup(fs, "missing")
        assert share.count() == 0
        assert (await lookup(fs, "c")).size == 6
        assert share.count("stat") == 1


@virtual_time
async def test_a_listing_that_comes_too_late_is_not_repeated() -> None:
    async with mounted() as (share, fs):
        for index in range(20):
            share.put(f"{index}")
        await lookup(fs, "0")
        async with trio.open_nursery() as nursery:
            with share.hold("scandir"):
                nursery.start_soon(lookup, fs, "1")
                await trio.sleep(1.5)
        for index in range(2, 20):
            await lookup(fs, f"{index}")
        assert share.count("scandir") == 1


@virtual_time
async def test_a_listing_never_hides_what_we_made_since() -> None:
    async with mounted() as (_share, fs):
        await list_folder(fs)
        handle, _ = await create(fs, "new")
        await fs.files.release(handle)
        fs.core.inodes.root.children[b"new"].fresh_until = 0
        await lookup(fs, "new")
        await fs.names.unlink(ROOT, b"new")
        with refused(errno.ENOENT):
            await lookup(fs, "new")


@virtual_time
async def test_a_fresh_folder_is_known_to_be_empty() -> None:
    async with mounted() as (share, fs):
        folder = await fs.names.mkdir(ROOT, b"d")
        with refused(errno.ENOENT):
            await lookup(fs, "x", folder.number)
        assert share.count() == 1


@virtual_time
async def test_a_lookup_that_a_create_overtakes_asks_again() -> None:
    async with mounted() as (share, fs):
        results: list[int] = []

        async def look() -> None:
            results.append((await lookup(fs, "a")).number)

        async with trio.open_nursery() as nursery:
            with share.hold("stat"):
                share.fail_next("stat", ntstatus.STATUS_OBJECT_NAME_NOT_FOUND)
                nursery.start_soon(look)
                await trio.testing.wait_all_tasks_blocked()
                _, number = await create(fs, "a")
        assert results == [number]


@virtual_time
async def test_concurrent_lookups_and_forgets_keep_the_count() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        number = (await lookup(fs, "a")).number
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(lookup, fs, "a")
        fs.forget([(number, 20)])
        assert fs.core.inodes.lookups(number) == 1
        fs.forget([(number, 1)])
        with refused(errno.ESTALE):
            await fs.metadata.getattr(number)
        assert (await lookup(fs, "a")).number == number


@virtual_time
async def test_a_file_replaced_by_another_client_is_another_inode() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        old = (await lookup(fs, "a")).number
        share.put("a")
        await trio.sleep(2)
        with refused(errno.ESTALE):
            await fs.metadata.getattr(old)
        assert (await lookup(fs, "a")).number != old


@virtual_time
async def test_a_file_cannot_be_mounted() -> None:
    share = FakeShare()
    share.root = share.put("file")
    async with trio.open_nursery() as nursery:
        fs = FileSystem(share, FileSystemConfig(), nursery)
        with refused(errno.ENOTDIR):
            await fs.start()


@virtual_time
async def test_mkdir_mknod_unlink_and_rmdir_cost_one_round_trip_each() -> None:
    async with mounted() as (share, fs):
        folder = await fs.names.mkdir(ROOT, b"d")
        made = await fs.names.mknod(folder.number, b"f", stat.S_IFREG | 0o644)
        assert (made.size, made.links) == (0, 1)
        await fs.names.unlink(folder.number, b"f")
        await fs.names.rmdir(ROOT, b"d")
        assert share.count() == 4
        assert share.names() == []


@virtual_time
async def test_taken_names_and_full_folders_are_refused() -> None:
    async with mounted() as (share, fs):
        share.put("d\\f")
        await lookup(fs, "d")
        with refused(errno.EEXIST):
            await fs.names.mkdir(ROOT, b"d")
        with refused(errno.ENOTEMPTY):
            await fs.names.rmdir(ROOT, b"d")
        with refused(errno.EISDIR):
            await fs.names.unlink(ROOT, b"d")


@virtual_time
async def test_special_files_are_refused() -> None:
    async with mounted() as (share, fs):
        for kind in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK):
            with refused(errno.EPERM):
                await fs.names.mknod(ROOT, b"x", kind | 0o600)
        assert share.count() == 0


@virtual_time
async def test_read_only_files_and_folders_can_be_removed() -> None:
    async with mounted() as (share, fs):
        share.put("f").attributes |= READONLY
        share.put_folder("d").attributes |= READONLY
        await lookup(fs, "f")
        await lookup(fs, "d")
        share.calls.clear()
        await fs.names.unlink(ROOT, b"f")
        assert share.count() == 1
        await fs.names.rmdir(ROOT, b"d")
        assert share.names() == []


@virtual_time
async def test_a_file_made_read_only_elsewhere_can_be_removed() -> None:
    async with mounted() as (share, fs):
        node = share.put("f")
        await lookup(fs, "f")
        node.attributes |= READONLY
        await fs.names.unlink(ROOT, b"f")
        assert share.names() == []


@virtual_time
async def test_the_other_names_of_a_removed_read_only_file_stay_read_only() -> None:
    async with mounted() as (share, fs):
        node = share.put("a")
        node.attributes |= READONLY
        await share.link("a", "b")
        await lookup(fs, "a")
        await lookup(fs, "b")
        await fs.names.unlink(ROOT, b"a")
        assert share.names() == ["b"]
        assert node.attributes & READONLY
        assert (await lookup(fs, "b")).mode & 0o222 == 0


@virtual_time
async def test_the_other_names_of_a_replaced_read_only_file_stay_read_only() -> None:
    async with mounted() as (share, fs):
        node = share.put("a")
        node.attributes |= READONLY
        share.put("new")
        await share.link("a", "b")
        for name in ("a", "b", "new"):
            await lookup(fs, name)
        await fs.renames.rename(ROOT, b"new", ROOT, b"a", 0)
        assert share.names() == ["a", "b"]
        assert share.find("b") is node
        assert node.attributes & READONLY
        assert (await lookup(fs, "b")).mode & 0o222 == 0


@virtual_time
async def test_a_name_that_waits_for_another_clients_close_is_busy() -> None:
    async with mounted() as (share, fs):
        share.put("a")
        share.open_elsewhere("a")
        await lookup(fs, "a")
        await fs.names.unlink(ROOT, b"a")
        with refused(errno.EBUSY):
            await create(fs, "a")


@virtual_time
async def test_an_open_file_is_unlinked_at_once_and_lives_on() -> None:
    async with mounted() as (share, fs):
        handle, number = await create(fs, "f")
        await fs.files.write(handle, 0, b"before")
        share.calls.clear()
        await fs.names.unlink(ROOT, b"f")
        assert share.count("unlink") == 1
        assert not share.exists("f")
        again, other = await create(fs, "f")
        assert other != number
        await fs.files.write(handle, 6, b" after")
        assert bytes(await fs.files.read(handle, 0, 100)) == b"before after"
        found = await fs.metadata.getattr(number)
        assert (found.links, found.size) == (0, 12)
        assert [name for name in share.names() if name != "f"]
        assert (await list_folder(fs)).names == [b"f"]
        await fs.files.release(handle)
        assert share.names() == ["f"]
        await fs.files.release(again)


@virtual_time
async def test_an_open_read_only_file_can_be_unlinked() -> None:
    async with mounted() as (share, fs):
        node = share.put("f")
        handle = await open_file(fs, "f")
        node.attributes |= READONLY
        await fs.names.unlink(ROOT, b"f")
        assert not share.exists("f")
        await fs.files.release(handle)
        assert share.names() == []


@virtual_time
async def test_a_failed_unlink_leaves_the_file() -> None:
    async with mounted() as (share, fs):
        share.put("f")
        await lookup(fs, "f")
        share.open_elsewhere("f", shares_delete=False)
        with refused(errno.EBUSY):
            await fs.names.unlink(ROOT, b"f")
        assert (await lookup(fs, "f")).links == 1


@virtual_time
async def test_hard_links_are_counted() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"data")
        number = (await lookup(fs, "a")).number
        made = await fs.names.link(number, ROOT, b"b")
        assert (made.number, made.links, made.size) == (number, 2, 4)
        assert share.count("link", "stat") == 2
        await fs.names.unlink(ROOT, b"a")
        assert (await lookup(fs, "b")).number == number
        assert (await fs.metadata.getattr(number)).links == 1
        with refused(errno.EEXIST):
            await fs.names.link(number, ROOT, b"b")


@virtual_time
async def test_links_of_a_listed_file_are_counted_too() -> None:
    async with mounted() as (share, fs):
        share.put("a", b"data")
        listed = await list_folder(fs)
        assert (await fs.names.link(listed.entries[b"a"].number, ROOT, b"b")).links == 2


@virtual_time
async def test_symbolic_links_are_files_that_cifs_reads() -> None:
    async with mounted() as (share, fs):
        made = await fs.names.symlink(ROOT, b"l", b"some/where")
        assert stat.S_ISLNK(made.mode)
        assert made.size == len(b"some/where")
        assert bytes(share.find("l").data) == symlinks.encode(b"some/where")
        assert await fs.names.readlink(made.number) == b"some/where"
        assert share.count() == 1


@virtual_time
async def test_symbolic_links_made_elsewhere_are_found() -> None:
    async with mounted() as (share, fs):
        share.put("l", symlinks.encode(b"target"))
        share.put("no-link", b"x" * symlinks.FILE_SIZE)
        found = await lookup(fs, "l")
        assert await fs.names.readlink(found.number) == b"target"
        assert stat.S_ISREG((await lookup(fs, "no-link")).mode)
        with refused(errno.ELOOP):
            await fs.files.open(found.number, os.O_RDONLY)
        with refused(errno.EINVAL):
            await fs.names.readlink((await lookup(fs, "no-link")).number)


@virtual_time
async def test_links_out_of_the_mount_are_refused_made_or_read() -> None:
    async with mounted() as (share, fs):
        share.put("out", symlinks.encode(b"/etc/passwd"))
        share.put("d\\up", symlinks.encode(b"../in"))
        with refused(errno.EPERM):
            await fs.names.readlink((await lookup(fs, "out")).number)
        assert await fs.names.readlink((await lookup(fs, "d/up")).number) == b"../in"
        with refused(errno.EPERM):
            await fs.names.symlink(ROOT, b"l", b"../out")


@virtual_time
async def test_a_link_moved_up_is_judged_from_its_new_place() -> None:
    async with mounted() as (share, fs):
        share.put("d\\up", symlinks.encode(b"../in"))
        number = (await lookup(fs, "d/up")).number
        folder = (await lookup(fs, "d")).number
        await fs.renames.rename(folder, b"up", ROOT, b"up", 0)
        with refused(errno.EPERM):
            await fs.names.readlink(number)


@virtual_time
async def test_a_link_is_judged_from_every_place_where_the_kernel_may_still_know_it() -> None:
    """A server shows a link high up, then says that this very file is deep down, and nowhere else: within
    the name's time to live the kernel follows it from above without asking again."""
    async with mounted() as (share, fs):
        node = share.put("l", symlinks.encode(b"../../../etc/passwd"))
        share.put_folder("a\\b\\c")
        high = await lookup(fs, "l")
        share.add_name(node, "a\\b\\c\\l")
        node.names = 1
        deep = await lookup(fs, "a/b/c/l")
        assert deep.number == high.number
        with refused(errno.EPERM):
            await fs.names.readlink(deep.number)
        fs.core.inodes.forget(high.number, 2)
        assert await fs.names.readlink((await lookup(fs, "a/b/c/l")).number) == b"../../../etc/passwd"


@virtual_time
async def test_a_folder_that_a_server_moves_below_a_working_program_does_not_let_links_climb_higher() -> None:
    """The program's folder stays where the kernel knows it, whatever the server says afterwards."""
    async with mounted() as (share, fs):
        folder = share.put_folder("d")
        share.put("d\\l", symlinks.encode(b"../../../etc/passwd"))
        link = await lookup(fs, "d/l")
        share.put_folder("a\\b")
        share.find("a\\b").children["D"] = ("d", folder)
        await lookup(fs, "a/b/d")
        del share.root.children["D"]
        await trio.sleep(60)
        with refused(errno.ENOENT):
            await lookup(fs, "d")
        with refused(errno.EPERM):
            await fs.names.readlink(link.number)


@virtual_time
async def test_a_folder_that_is_renamed_here_takes_its_links_along() -> None:
    async with mounted() as (share, fs):
        share.put("d\\l", symlinks.encode(b"../../x"))
        share.put_folder("a")
        link = await lookup(fs, "d/l")
        with refused(errno.EPERM):
            await fs.names.readlink(link.number)
        await fs.renames.rename(ROOT, b"d", (await lookup(fs, "a")).number, b"d", 0)
        assert await fs.names.readlink(link.number) == b"../../x"


@virtual_time
async def test_all_links_are_trusted_if_asked_for() -> None:
    async with mounted(config=FileSystemConfig(symlinks="all")) as (share, fs):
        share.put("out", symlinks.encode(b"/etc/passwd"))
        assert await fs.names.readlink((await lookup(fs, "out")).number) == b"/etc/passwd"


@pytest.mark.parametrize("config", [FileSystemConfig(symlinks="none"), FileSystemConfig(mfsymlinks=False)])
@virtual_time
async def test_without_links_they_are_plain_files(config: FileSystemConfig) -> None:
    async with mounted(config=config) as (share, fs):
        share.put("l", symlinks.encode(b"target"))
        assert stat.S_ISREG((await lookup(fs, "l")).mode)
        with refused(errno.EPERM):
            await fs.names.symlink(ROOT, b"x", b"target")
        assert share.count("read_file") == 0


@virtual_time
async def test_a_read_only_mount_changes_nothing() -> None:
    async with mounted(config=FileSystemConfig(read_only=True)) as (share, fs):
        share.put("f")
        share.put("d\\x")
        number = (await lookup(fs, "f")).number
        before = share.count()
        for change in (
            fs.names.mkdir(ROOT, b"n"),
            fs.names.mknod(ROOT, b"n", stat.S_IFREG),
            fs.names.unlink(ROOT, b"f"),
            fs.names.rmdir(ROOT, b"d"),
            fs.names.link(number, ROOT, b"n"),
            fs.names.symlink(ROOT, b"n", b"t"),
            fs.renames.rename(ROOT, b"f", ROOT, b"n", 0),
            fs.files.create(ROOT, b"n", 0o644, os.O_RDWR),
            fs.files.open(number, os.O_WRONLY),
            fs.xattrs.set(number, b"user.a", b"1"),
        ):
            with refused(errno.EROFS):
                await change
        assert share.count() == before


class RefusesToDeleteReadOnly(FakeShare):
    """Lets a read-only file be renamed, but never its attribute be cleared: its folder may be changed,
    the file may not."""

    async def unlink(
        self,
        path: str,
        *,
        aside: str | None = None,
        clear_readonly: bool = False,
        lease: Lease | None = None,
        file_id: int = 0,
    ) -> None:
        if clear_readonly:
            await self.enter("unlink", path)
            raise error_from_status(ntstatus.STATUS_ACCESS_DENIED, path)
        await super().unlink(path, aside=aside)


@virtual_time
async def test_an_open_file_that_cannot_be_deleted_gets_its_name_back() -> None:
    async with mounted(RefusesToDeleteReadOnly()) as (share, fs):
        node = share.put("f", b"data")
        await open_file(fs, "f", os.O_RDONLY)
        node.attributes |= READONLY
        with refused(errno.EACCES):
            await fs.names.unlink(ROOT, b"f")
        assert share.names() == ["f"]
        assert (await lookup(fs, "f")).links == 1


@virtual_time
@pytest.mark.parametrize(
    "status",
    [ntstatus.STATUS_FILE_LOCK_CONFLICT, ntstatus.STATUS_DELETE_PENDING, ntstatus.STATUS_IO_DEVICE_ERROR],
)
async def test_a_file_that_might_be_a_link_and_cannot_be_read_does_not_spoil_the_listing(status: int) -> None:
    async with mounted() as (share, fs):
        share.put("a", b"x" * symlinks.FILE_SIZE)
        share.put("b")
        share.fail_next("read_file", status)
        listed = await list_folder(fs)
        assert listed.names == [b"a", b"b"]
        assert stat.S_ISREG(listed.entries[b"a"].mode)


@virtual_time
async def test_a_link_made_within_a_tick_of_another_with_its_number_has_its_own_target() -> None:
    async with mounted() as (share, fs):
        await fs.names.symlink(ROOT, b"first", b"one")
        await trio.sleep(2)
        assert await fs.names.readlink((await lookup(fs, "first")).number) == b"one"
        node = share.find("first")
        await fs.names.unlink(ROOT, b"first")
        share.take_back(node)
        await fs.names.symlink(ROOT, b"second", b"two")
        await trio.sleep(2)
        assert share.find("second").number == node.number
        assert await fs.names.readlink((await lookup(fs, "second")).number) == b"two"


@pytest.mark.parametrize("truncate", [0, os.O_TRUNC])
@virtual_time
async def test_a_link_that_another_client_just_made_is_not_overwritten(truncate: int) -> None:
    async with mounted() as (share, fs):
        with refused(errno.ENOENT):
            await lookup(fs, "l")
        node = share.put("l", symlinks.encode(b"target"))
        with refused(errno.ESTALE):
            await fs.files.create(ROOT, b"l", 0o644, os.O_CREAT | os.O_WRONLY | truncate)
        assert bytes(node.data) == symlinks.encode(b"target")
        assert not node.opens
        assert stat.S_ISLNK((await lookup(fs, "l")).mode)
        node = share.put("no-link", b"x" * symlinks.FILE_SIZE)
        await fs.files.create(ROOT, b"no-link", 0o644, os.O_CREAT | os.O_WRONLY | truncate)
        assert len(node.data) == (0 if truncate else symlinks.FILE_SIZE)


@pytest.mark.parametrize("was_done", [False, True])
@virtual_time
async def test_a_hard_link_of_an_open_file_is_made_once_though_the_connection_is_lost(was_done: bool) -> None:
    async with mounted() as (share, fs):
        node = share.put("a", b"data")
        await open_file(fs, "a")
        number = (await lookup(fs, "a")).number
        lost: list[Call] = []

        def lose(call: Call) -> None:
            if call.operation == "link" and not lost:
                lost.append(call)
                if was_done:
                    share.add_name(node, "b")
                raise OutcomeUnknown("the connection was lost")

        share.watch = lose
        assert (await fs.names.link(number, ROOT, b"b")).links == 2
        assert lost
        assert share.find("b") is node
        assert node.names == 2
