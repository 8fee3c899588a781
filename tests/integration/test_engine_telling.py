"""What Samba tells with CREATE and CLOSE is what QUERY_INFO would have told, on each dialect."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from engine import ConnectConfig, Dialect, Disposition, FileStat, Share
from tests.integration.support_engine import READ_WRITE, connected, in_trio, inside, told_at_close
from tests.support.samba import SambaServer


async def same_from_both(share: Share, path: str) -> FileStat:
    """What CREATE tells of a file, after comparing it with what QUERY_INFO tells."""
    asked = await share.stat(path)
    told = await share.stat(path, details=False)
    assert (told.number_of_links, told.ea_size) == (0, None)
    without = dataclasses.replace(asked, number_of_links=0, ea_size=None)
    assert told == without
    async with await share.open(path, details=False) as file:
        assert file.stat == without
    return told


@pytest.mark.parametrize("dialect", Dialect)
@in_trio
async def test_create_and_close_tell_the_truth(
    samba: SambaServer, share_path: Path, dialect: Dialect
) -> None:
    path = inside(share_path)("file")
    config = ConnectConfig(min_dialect=dialect, max_dialect=dialect)
    async with connected(samba, config=config) as share, connected(samba, config=config) as other:
        await share.stat("")
        await other.stat("")
        file = await share.open(path, access=READ_WRITE, disposition=Disposition.CREATE, details=False)
        assert file.stat.ea_size is None
        assert file.stat.file_id == (share_path / "file").stat().st_ino
        await file.write_at(0, bytes(5000))
        for observer in (share, other):
            assert (await same_from_both(observer, path)).size == 5000
        at_close = await told_at_close(file)
        assert at_close == await same_from_both(share, path)
        await share.set_basic(path, access_ns=10**18, write_ns=10**18)
        await share.set_ea(path, "key", b"value")
        await share.link(path, f"{path}.link")
        assert (await same_from_both(share, path)).write_ns == 10**18
        await share.truncate(path, 10)
        await same_from_both(other, path)
        assert (await same_from_both(share, share_path.name)).is_directory
