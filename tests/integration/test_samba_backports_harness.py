"""The throw-away server of a newer version does what the tests rely on, and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from engine import Access, ConnectConfig, CreateOptions, Dialect
from engine.wire.constants import LeaseState, OplockLevel
from engine.wire.create import CloseRequest, CreateRequest, CreateResponse
from engine.wire.create_contexts import LeaseV2
from engine.wire.primitives import FILE_ID_RELATED
from tests.integration.support_engine import connected, in_trio
from tests.integration.support_servers import processes_of, server_of_a_killed_process
from tests.support.factories import SambaFactory
from tests.support.samba import SambaServer, ShareConfig
from tests.support.samba_backports import BackportsSambaServer
from tests.support.server import HarnessError
from tests.support.tools import wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run the newer Samba")


@in_trio
async def test_it_grants_leases_of_directories(samba: SambaServer, samba_backports: SambaServer) -> None:
    async with connected(samba_backports) as share:
        assert share.description.dialect is Dialect.SMB_3_1_1
        assert share.supports_leases
        assert share.supports_directory_leases
    async with connected(samba) as share:
        assert not share.supports_directory_leases


@in_trio
async def test_folder_is_opened_with_a_lease(samba_backports: SambaServer) -> None:
    asked = LeaseV2(bytes(range(16)), LeaseState.READ_CACHING | LeaseState.HANDLE_CACHING)
    create = CreateRequest(
        requested_oplock_level=OplockLevel.LEASE,
        desired_access=Access.READ,
        create_options=CreateOptions.DIRECTORY_FILE,
        name="",
        contexts=[asked],
    )
    async with connected(samba_backports) as share:
        close = CloseRequest(file_id=FILE_ID_RELATED)
        reply, _ = await share._tree.exchange(create, close, what="open the share")
    (granted,) = CreateResponse.decode_untrusted(reply.message).contexts
    assert isinstance(granted, LeaseV2)
    assert (granted.lease_key, granted.lease_state) == (asked.lease_key, asked.lease_state)


@in_trio
async def test_leases_of_directories_can_be_turned_off(samba_backports_factory: SambaFactory) -> None:
    server = samba_backports_factory(global_options={"smb3 directory leases": "no"})
    async with connected(server) as share:
        assert not share.supports_directory_leases


@in_trio
async def test_older_dialects(samba_backports: SambaServer) -> None:
    for dialect in (Dialect.SMB_2_0_2, Dialect.SMB_3_0):
        config = ConnectConfig(min_dialect=dialect, max_dialect=dialect)
        async with connected(samba_backports, config=config) as share:
            assert share.description.dialect is dialect


@in_trio
async def test_file_of_smbclient_is_read_by_the_engine(
    samba_backports: SambaServer, backports_share_path: Path
) -> None:
    put = f"cd {backports_share_path.name}; put {samba_backports.conf} copy"
    await trio.to_thread.run_sync(samba_backports.smbclient, "data", put)
    async with connected(samba_backports) as share:
        data = await share.read_file(f"{backports_share_path.name}\\copy", 1 << 20)
    assert data == samba_backports.conf.read_bytes()
    assert "user.DOSATTRIB" in os.listxattr(backports_share_path / "copy")


def test_folder_of_the_host_s_is_its_share(
    samba_backports_factory: SambaFactory, samba: SambaServer, share_path: Path
) -> None:
    server = samba_backports_factory({"data": ShareConfig(share_path)})
    samba.smbclient("data", f"cd {share_path.name}; mkdir older")
    server.smbclient("data", "mkdir older/newer")
    assert (share_path / "older" / "newer").is_dir()
    assert (share_path / "older" / "newer").owner() == server.user


@in_trio
async def test_its_own_programs_ask_and_control_it(samba_backports_factory: SambaFactory) -> None:
    server = samba_backports_factory()
    async with connected(server) as share:
        (connection,) = server.connection_pids()
        assert str(connection) in await trio.to_thread.run_sync(server.smbstatus, "--processes")
        assert "PONG" in (await trio.to_thread.run_sync(server.smbcontrol, "smbd", "ping")).stdout
    await trio.to_thread.run_sync(server.set_password, "another one")
    await trio.to_thread.run_sync(server.restart)
    async with connected(server) as share:
        await share.stat("")


@as_root
def test_stop_leaves_neither_process_nor_mount_nor_folder() -> None:
    with BackportsSambaServer() as server:
        base = server.base
        assert "data" in server.list_shares()
        assert processes_of(base)
        assert os.fsencode(base) not in Path("/proc/self/mountinfo").read_bytes()
    assert processes_of(base) == []
    assert not base.exists()


@as_root
def test_nothing_is_left_when_whoever_started_it_is_killed() -> None:
    base = server_of_a_killed_process(BackportsSambaServer)
    wait_until(lambda: not processes_of(base) and not base.exists(), "process and folder are gone", 20.0)


@as_root
def test_failed_start_leaves_nothing_and_says_why(tmp_path: Path) -> None:
    server = BackportsSambaServer({"data": ShareConfig(tmp_path / "missing")})
    with pytest.raises(HarnessError, match="missing"):
        server.start()
    with pytest.raises(HarnessError, match="not started"):
        server.base  # noqa: B018


@as_root
def test_without_the_newer_samba_it_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(HarnessError, match="run scripts/test as root"):
        BackportsSambaServer().start()
