"""The throw-away server does what the tests rely on, seen with Samba's own client."""

from __future__ import annotations

import os
from pathlib import Path

from tests.integration.support_servers import processes_of, server_of_a_killed_process
from tests.support.factories import SambaFactory
from tests.support.samba import (
    DURABLE_SHARE_OPTIONS,
    GUEST_GLOBAL_OPTIONS,
    GUEST_SHARE_OPTIONS,
    SambaServer,
    ShareConfig,
)
from tests.support.tools import wait_until


def test_user_writes_and_reads(samba: SambaServer, share_path: Path) -> None:
    samba.smbclient("data", f"cd {share_path.name}; put {samba.conf} copy")
    assert (share_path / "copy").read_text() == samba.conf.read_text()
    assert "user.DOSATTRIB" in os.listxattr(share_path / "copy")


def test_adopted_files_belong_to_the_server_s_user(samba: SambaServer, share_path: Path) -> None:
    (share_path / "mine").write_text("x")
    samba.adopt(share_path / "mine")
    samba.smbclient("data", f"del {share_path.name}/mine")
    assert list(share_path.iterdir()) == []


def test_wrong_password_is_refused(samba_factory: SambaFactory) -> None:
    server = samba_factory()
    server.credentials_file.write_text(f"username={server.user}\npassword=wrong\n")
    assert "LOGON_FAILURE" in server.smbclient("data", "ls", check=False).stdout
    server.set_password("another one")
    server.smbclient("data", "ls")


def test_guests_are_let_in_only_where_they_may(samba_factory: SambaFactory) -> None:
    server = samba_factory(
        {"public": ShareConfig(options=GUEST_SHARE_OPTIONS), "data": ShareConfig()},
        global_options=GUEST_GLOBAL_OPTIONS,
    )
    server.smbclient("public", "ls", guest=True)
    assert "ACCESS_DENIED" in server.smbclient("data", "ls", guest=True, check=False).stdout


def test_servers_side_by_side_and_restart(samba_factory: SambaFactory) -> None:
    first = samba_factory({"data": ShareConfig(options=DURABLE_SHARE_OPTIONS)})
    path = first.base / "shown"
    path.mkdir()
    second = samba_factory({"data": ShareConfig(path)})
    (first.share_path() / "only-in-first").touch()
    port = first.port
    first.restart()
    assert first.port == port
    assert "only-in-first" in first.smbclient("data", "ls").stdout
    assert "only-in-first" not in second.smbclient("data", "ls").stdout
    second.stop()
    assert path.is_dir()


def test_stop_leaves_neither_process_nor_folder() -> None:
    with SambaServer() as server:
        base = server.base
        # Asking for the list of shares makes smbd start its RPC helpers, which leave its process group.
        assert "data" in server.list_shares()
        assert processes_of(base)
    assert processes_of(base) == []
    assert not base.exists()


def test_nothing_is_left_when_whoever_started_it_is_killed() -> None:
    base = server_of_a_killed_process(SambaServer)
    wait_until(lambda: not processes_of(base) and not base.exists(), "process and folder are gone", 20.0)
