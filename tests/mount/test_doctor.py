"""`smbmountctl doctor` and the way to a share: the step that fails, with a message of docs/MESSAGES.md.

Accounts, and all that Kerberos says, are in `test_doctor_accounts`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.test_control import ctl
from tests.mount.test_errors_and_exit_codes import run
from tests.support.dfs import Estate, estate
from tests.support.doctor import STEPS, Examined, account, examine, examine_at, says
from tests.support.factories import SambaFactory
from tests.support.samba import GUEST_GLOBAL_OPTIONS, GUEST_SHARE_OPTIONS, SambaServer, ShareConfig
from tests.support.tools import wait_until

pytestmark = pytest.mark.deadline(90)

NOWHERE = "127.1.2.3"


def mount_says(source: str, folder: Path, *options: str) -> str:
    """What smbmount itself says, which has to fail."""
    done = run(source, folder, "-o", ",".join(["guest", *options]))
    assert done.returncode == 32
    return done.stderr


def test_all_is_well(samba: SambaServer, share_path: Path) -> None:
    (share_path / "file").write_text("content")
    seen = examine_at(samba, account(samba), share=f"data/{share_path.name}")
    assert (seen.code, seen.well, seen.said, seen.complaint) == (0, STEPS, "", "")
    assert all(set(one) == {"step", "ok", "said", "remark", "status"} for one in seen.findings)
    assert all(one["remark"] is None and one["status"] is None for one in seen.findings)


def test_for_a_person(samba: SambaServer, share_path: Path) -> None:
    (share_path / "file").write_text("content")
    given = f"port={samba.port},{account(samba)}"
    code, output, _ = ctl("doctor", "-o", given, f"{samba.unc()}/{share_path.name}")
    lines = output.splitlines()
    assert code == 0
    assert [line.split()[:2] for line in lines] == [[step, "ok"] for step in STEPS]
    assert "SMB 3.1.1" in lines[2]
    assert "NTLM" in lines[3]
    assert "file is read" in lines[5]


# The name, and TCP


def test_unknown_host(samba: SambaServer, tmp_path: Path) -> None:
    seen = examine_at(samba, account(samba), host="no-such-host.invalid")
    seen.fails_at("name", "no host … is known (…): check name and DNS, or give ip=")
    said = mount_says("//no-such-host.invalid/data", tmp_path)
    assert says(said, "the host name … cannot be resolved: check its spelling and the name service")


def test_name_that_no_host_can_have(samba: SambaServer, tmp_path: Path) -> None:
    seen = examine_at(samba, account(samba), host="a" * 70)
    seen.fails_at("name", "no host can have the name …: check its spelling, or give ip=")
    said = mount_says(f"//{'a' * 70}/data", tmp_path)
    assert says(said, "the host name … cannot be resolved: no host can have that name")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a program another name service")
def test_name_servers_that_are_silent(tmp_path: Path) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind((NOWHERE, 53))
        (tmp_path / "resolv.conf").write_text(f"nameserver {NOWHERE}\n")
        command = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        prefix = ("unshare", "--mount", "sh", "-c", command, str(tmp_path / "resolv.conf"))
        seen = examine("//server.example.net/data", "guest", "timeout=1", prefix=prefix)
    seen.fails_at("name", "nobody says which address … has: check DNS, or give ip=")


def test_nobody_listens(samba: SambaServer, tmp_path: Path) -> None:
    seen = examine(f"//{NOWHERE}/data", "port=1", account(samba))
    seen.fails_at("TCP", "nothing listens on port … of …: start the server, or give port=")
    said = mount_says(f"//{NOWHERE}:1/data", tmp_path)
    assert says(said, "nothing listens on TCP port … of …: check the port and that the server runs")


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port that answers nobody: its queue is full, and what comes is dropped as by a firewall."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_host_that_is_silent(samba: SambaServer, full_port: int, tmp_path: Path) -> None:
    seen = examine("//127.0.0.1/data", f"port={full_port},timeout=1", account(samba))
    seen.fails_at("TCP", "… is silent: check that it runs, and that no firewall is in the way")
    said = mount_says(f"//127.0.0.1:{full_port}/data", tmp_path, "timeout=1")
    assert says(said, "… port … did not answer within … s")


def test_no_way_to_the_address(samba: SambaServer, tmp_path: Path) -> None:
    seen = examine("//255.255.255.255/data", account(samba))
    seen.fails_at("TCP", "… cannot be reached (…): check the network")
    assert says(mount_says("//255.255.255.255/data", tmp_path), "cannot connect to … port …: …")


# The negotiation


class Answering:
    """A server that says the same to everyone, b"" being nothing."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port: int = self._listener.getsockname()[1]

    def _serve(self) -> None:
        # The first connection looks whether anybody is there.
        for _ in range(2):
            connection, _ = self._listener.accept()
            with connection:
                if connection.recv(1000) and self._answer:
                    connection.sendall(self._answer)
                connection.recv(1000)

    def __enter__(self) -> Answering:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.join(20)
        self._listener.close()


def test_server_that_takes_connections_and_is_silent() -> None:
    with Answering(b"") as server:
        seen = examine("//127.0.0.1/data", f"port={server.port},guest,timeout=1")
    seen.fails_at("negotiate", "… took the connection but did not answer within … s")


def test_server_that_is_none_of_smb() -> None:
    with Answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        seen = examine("//127.0.0.1/data", f"port={server.port},guest")
    seen.fails_at(
        "negotiate",
        "the server announced a frame of … bytes, so it speaks no SMB: check its name and the port",
    )
    assert "report it" not in seen.said


def test_server_of_smb_1_alone(samba_factory: SambaFactory) -> None:
    server = samba_factory(global_options={"server min protocol": "NT1", "server max protocol": "NT1"})
    examine_at(server, account(server)).fails_at(
        "negotiate",
        "the server closed the connection at the first message: it may speak SMB 1 alone, which is never "
        "used, or take no more connections",
    )


def test_server_that_lets_this_machine_not_in(samba_factory: SambaFactory) -> None:
    server = samba_factory(global_options={"hosts deny": "ALL"})
    examine_at(server, account(server)).fails_at(
        "negotiate",
        "the server lets nobody in from this address: have it allowed there (Samba: hosts allow)",
    )


def test_dialects_that_do_not_meet(samba_factory: SambaFactory) -> None:
    """`seal` takes 3.0 or newer."""
    server = samba_factory(global_options={"server max protocol": "SMB2_10"})
    for options, offered in (("vers=3.1.1", "3.1.1 alone allowed"), ("seal", "3.0 to 3.1.1 allowed")):
        seen = examine_at(server, account(server), options)
        message = "agree on a protocol version (… allowed here, see the option 'vers')"
        seen.fails_at("negotiate", message, offered)
        assert seen.of("negotiate")["status"] == "STATUS_NOT_SUPPORTED"


def test_encryption_that_the_server_has_not(samba_factory: SambaFactory) -> None:
    server = samba_factory(global_options={"server smb encrypt": "off"})
    examine_at(server, account(server), "seal").fails_at(
        "negotiate", "encryption is demanded, but the server offers none with dialect …", "leave out seal"
    )
    assert examine_at(server, account(server)).code == 0


# Encryption and signatures that the server demands


def test_encryption_that_the_server_demands(samba_factory: SambaFactory) -> None:
    """It denies access, and does not say why; who can encrypt gets in unasked."""
    server = samba_factory(
        {"data": ShareConfig(options={**GUEST_SHARE_OPTIONS, "smb encrypt": "required"})},
        global_options=GUEST_GLOBAL_OPTIONS,
    )
    examine_at(server, account(server), "vers=2.1").fails_at(
        "share", "connect to the share …", "STATUS_ACCESS_DENIED", "demands encryption, use vers=3"
    )
    examine_at(server, "guest").fails_at(
        "share", "connect to the share …", "if the server demands encryption, use an account"
    )
    assert examine_at(server, account(server)).code == 0
    server = samba_factory(global_options={"smb encrypt": "required"})
    examine_at(server, account(server), "vers=2.1").fails_at(
        "log-on", "log-on as … refused: … (…)", "STATUS_ACCESS_DENIED", "use vers=3"
    )


@pytest.mark.parametrize("signing", ["mandatory", "disabled"])
def test_signatures_never_stand_in_the_way(samba_factory: SambaFactory, signing: str) -> None:
    """SMB 2 has no server that cannot sign: what the one side demands the other one does."""
    server = samba_factory(global_options={"server signing": signing})
    for option in ("sign", "nosign"):
        seen = examine_at(server, account(server), option)
        assert seen.code == 0
        signed = "signed with" in seen.of("negotiate")["said"]
        assert signed is (option == "sign" or signing == "mandatory")


# The share


@pytest.fixture(scope="module")
def shares() -> Iterator[SambaServer]:
    """A server with shares that are of no use."""
    config = {
        "data": ShareConfig(),
        "others": ShareConfig(options={"valid users": "root"}),
        "elsewhere": ShareConfig(options={"hosts deny": "ALL"}),
        "gone": ShareConfig(options={"path": "/no/such/folder"}),
        "one": ShareConfig(options={"max connections": "1"}),
    }
    with SambaServer(config) as server:
        yield server


@pytest.mark.parametrize(
    ("share", "status", "advice"),
    [
        ("missing", "STATUS_BAD_NETWORK_NAME", "list its shares"),
        ("gone", "STATUS_BAD_NETWORK_NAME", "list its shares"),
        ("others", "STATUS_ACCESS_DENIED", "ask for the right to use the share"),
        ("elsewhere", "STATUS_ACCESS_DENIED", "ask for the right to use the share"),
    ],
)
def test_share_that_is_of_no_use(shares: SambaServer, share: str, status: str, advice: str) -> None:
    seen = examine_at(shares, account(shares), share=share)
    seen.fails_at("share", "connect to the share …", status, advice)
    assert seen.of("share")["status"] == status
    assert "demands encryption" not in seen.said


def test_share_with_as_many_users_as_it_may_have(shares: SambaServer) -> None:
    with subprocess.Popen(
        [
            *("smbclient", f"--configfile={shares.conf}", f"--port={shares.port}"),
            *(f"--authentication-file={shares.credentials_file}", shares.unc("one")),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ):
        wait_until(lambda: "one" in shares.smbstatus("--shares").split(), "somebody uses the share")
        seen = examine_at(shares, account(shares), share="one")
    seen.fails_at("share", "connect to the share …", "STATUS_INSUFFICIENT_RESOURCES")


def test_share_of_no_files(samba: SambaServer) -> None:
    seen = examine_at(samba, account(samba), share="IPC$")
    seen.fails_at("read", "it is …, not a share of files: name another share", "a share of named pipes")


# Reading


def test_folder_that_is_not_there(samba: SambaServer, share_path: Path) -> None:
    seen = examine_at(samba, account(samba), share="data/no/folder")
    seen.fails_at("read", "the share has no folder … (…): check its spelling", "'no/folder'")
    assert seen.of("read")["status"] == "STATUS_OBJECT_PATH_NOT_FOUND"
    (share_path / "file").touch()
    seen = examine_at(samba, account(samba), share=f"data/{share_path.name}/file")
    seen.fails_at("read", "… is a file: give a folder of the share")


def test_folder_that_the_account_may_not_list(samba: SambaServer, share_path: Path) -> None:
    share_path.chmod(0o300)
    seen = examine_at(samba, account(samba), share=f"data/{share_path.name}")
    share_path.chmod(0o700)
    seen.fails_at("read", "list …: … (…)", "STATUS_ACCESS_DENIED")


def test_files_that_may_not_be_read_are_a_remark(samba: SambaServer, share_path: Path) -> None:
    """As long as one can be read, or none is there, or none may be: the way to the share is well."""
    folder = f"data/{share_path.name}"
    assert examine_at(samba, account(samba), share=folder).of("read")["said"] == (
        "the folder is listed, and has no file to be read"
    )
    for name in ("first", "second"):
        (share_path / name).touch()
        (share_path / name).chmod(0)
    samba.adopt(share_path)
    seen = examine_at(samba, account(samba), share=folder)
    assert (seen.code, seen.well) == (0, STEPS)
    assert seen.of("read")["said"] == "the folder is listed"
    assert says(seen.of("read")["remark"], "none of its first … files could be read: …")
    assert "STATUS_ACCESS_DENIED" in seen.of("read")["remark"]
    for number in range(10):
        (share_path / f"another{number}").write_text("content")
    samba.adopt(share_path)
    remarks = set()
    for name in ("first", "second", ""):
        seen = examine_at(samba, account(samba), share=folder)
        assert (seen.code, seen.well) == (0, STEPS)
        remarks.add(seen.of("read")["remark"])
        if name:
            (share_path / name).unlink()
    assert None in remarks
    assert all(remark is None or says(remark, "… others could not be read: …") for remark in remarks)


# DFS


@pytest.fixture(scope="module")
def tree() -> Iterator[Estate]:
    """A distributed tree whose first server is down."""
    with estate() as made:
        made.first.stop_service()
        yield made


def examine_link(tree: Estate, name: str, *options: str) -> Examined:
    """Ask for a link of the tree."""
    return examine_at(tree.namespace, account(tree.namespace), *options, share=f"dfs/{name}")


def trusted(tree: Estate) -> str:
    """The option that lets the password go to all servers of the tree."""
    return f"dfs_hosts={':'.join(tree.hosts)}"


def test_target_that_is_down(tree: Estate) -> None:
    tree.link("down", tree.target(tree.first, "data"))
    seen = examine_link(tree, "down", trusted(tree))
    seen.fails_at("DFS", "cannot … …, which leads to …: …", f"//{tree.first.address}/data: nothing listens")


def test_target_that_refuses_us(tree: Estate) -> None:
    tree.link("missing", tree.target(tree.second, "missing"))
    seen = examine_link(tree, "missing", trusted(tree))
    seen.fails_at("DFS", "cannot … …, which leads to …: …", "STATUS_BAD_NETWORK_NAME")


def test_targets_none_of_which_can_be_used(tree: Estate) -> None:
    tree.link("both", tree.target(tree.first, "data"), tree.target(tree.second, "missing"))
    seen = examine_link(tree, "both", trusted(tree))
    seen.fails_at("DFS", "no target of … can be used: …", tree.first.address, tree.second.address)
    tree.link("one", tree.target(tree.first, "data"), tree.target(tree.second, "data"))
    assert examine_link(tree, "one", trusted(tree)).code == 0


def test_target_that_the_password_does_not_go_to(tree: Estate) -> None:
    tree.link("foreign", tree.target(tree.second, "data"))
    examine_link(tree, "foreign").fails_at(
        "DFS",
        "… leads to the host …, to which the account was not sent: if it may be used there, allow that "
        "with dfs_hosts=…",
    )


def test_links_in_a_circle(tree: Estate) -> None:
    tree.link("circle", tree.target(tree.namespace, "dfs\\circle"))
    message = "… leads back to itself: links of the distributed tree go in a circle"
    examine_link(tree, "circle").fails_at("DFS", message, "ask who keeps the distributed tree")


def test_link_that_is_not_to_be_followed(tree: Estate) -> None:
    tree.link("link", tree.target(tree.second, "data"))
    seen = examine_link(tree, "link", "nodfs")
    seen.fails_at("read", "the folder lives on another server (DFS)", "leave out nodfs")


# The command


def test_wrong_use_is_one_sentence(samba: SambaServer) -> None:
    for arguments, words in (
        (["doctor"], "1 path must be given"),
        (["doctor", "-o", "username=me,password=secret", "//srv/share"], "use credentials=FILE"),
        (["doctor", "-o", "guest,wrong", "//srv/share"], "unknown option"),
        (["doctor", "-o", "guest", "//srv"], "names no share"),
    ):
        code, output, said = ctl(*arguments)
        assert code == 1
        assert output == ""
        assert words in said
