"""Distributed trees whose servers lie: where a client goes, and where it does not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio

import engine
from engine import Dialect, ntstatus
from engine.client.config import parse_unc
from engine.client.establish import Way
from engine.client.trust import may_log_on, may_send_ntlm
from engine.wire.constants import Command, ShareFlags
from engine.wire.dfs import DfsReferralResponse
from tests.fakes.server import FakeServer, ServerOptions
from tests.fakes.server_behaviours import KeepsWaiting
from tests.fakes.server_controls import Controls, Refused
from tests.support.logcheck import ExpectedWarnings
from tests.unit.client.support import ACCOUNT, DEADLINE, NOBODY
from tests.unit.client.support_dfs import FIRST, FRIENDS, NAMESPACE, SECOND, at, namespace, referral, served


@asynccontextmanager
async def reached(
    path: str,
    *servers: FakeServer,
    config: engine.ConnectConfig | None = None,
    credentials: engine.Credentials = ACCOUNT,
) -> AsyncGenerator[engine.Share, None]:
    """Run servers, and connect to a path of the first one's share."""
    config = config or engine.ConnectConfig(dfs_hosts=FRIENDS)
    async with served(path, *servers) as unc, engine.connect(unc, credentials, config) as share:
        yield share


def fails(
    error: type[engine.SmbError],
    match: str,
    path: str,
    *servers: FakeServer,
    config: engine.ConnectConfig | None = None,
) -> str:
    """Connecting to a path fails; what is said."""
    config = config or engine.ConnectConfig(dfs_hosts=FRIENDS)

    async def main() -> str:
        async with served(path, *servers) as unc:
            with pytest.raises(error, match=match) as caught:
                async with engine.connect(unc, ACCOUNT, config):
                    pytest.fail("connected")
            return str(caught.value)

    return trio.run(main)


def test_a_link_leads_to_the_folder_of_its_first_target() -> None:
    server, target = namespace(link=[f"\\{FIRST}\\share\\sub", f"\\{SECOND}\\share"]), at(FIRST)
    target.tree.add_folder("sub")
    target.tree.add_folder("sub\\folder")
    target.tree.add_file("sub\\folder\\file", b"there")
    server.tree.controls.referrals[f"\\{NAMESPACE}\\data\\link\\folder"] = server.tree.controls.referrals[
        f"\\{NAMESPACE}\\data\\link"
    ]

    async def main() -> None:
        async with reached("link/folder", server, target) as share:
            assert await share.read_file("file", 10) == b"there"
            (step,) = share.dfs_steps()
            assert step.name == f"\\\\{NAMESPACE}\\data\\link"
            assert [(one.name, one.is_active) for one in step.targets] == [
                (f"\\\\{FIRST}\\share\\sub", True),
                (f"\\\\{SECOND}\\share", False),
            ]

    trio.run(main)
    assert target.tree_connects == [f"\\\\{FIRST}\\share"]
    assert server.tree_connects == [f"\\\\{NAMESPACE}\\data", f"\\\\{NAMESPACE}\\IPC$"]
    assert server.received[-1] is Command.LOGOFF


@pytest.mark.parametrize(
    "dialect", [Dialect.SMB_2_0_2, Dialect.SMB_2_1, Dialect.SMB_3_0_2, Dialect.SMB_3_1_1]
)
def test_each_hop_is_negotiated_and_checked(dialect: Dialect) -> None:
    server, target = namespace(link=[f"\\{FIRST}\\share"]), at(FIRST, FakeServer(dialect=dialect))

    async def main() -> None:
        async with reached("link", server, target) as share:
            assert share.description.dialect is dialect
            assert share.description.signing is not None

    trio.run(main)
    assert (Command.IOCTL in target.received) is (dialect is not Dialect.SMB_3_1_1)


def test_an_ordinary_share_is_asked_for_nothing() -> None:
    server = FakeServer()

    async def main() -> None:
        async with reached("folder", server) as share:
            assert share.dfs_steps() == []

    trio.run(main)
    assert server.tree_connects == [f"\\\\{NAMESPACE}\\data"]
    assert Command.IOCTL not in server.received


def test_nodfs_asks_for_nothing() -> None:
    server = namespace(link=[f"\\{FIRST}\\share"])

    async def main() -> None:
        async with reached("link", server, config=engine.ConnectConfig(dfs=False)):
            pass

    trio.run(main)
    assert Command.IOCTL not in server.received


def test_what_is_no_link_is_in_the_namespace_itself() -> None:
    server = namespace()
    server.tree.add_folder("folder")
    root = f"\\{NAMESPACE}\\data"
    server.tree.controls.referrals[root] = referral(root, f"{root}", "\\other\\data", is_root=True)

    async def main() -> None:
        async with reached("folder", server) as share:
            assert (await share.stat("")).is_directory
            (step,) = share.dfs_steps()
            assert step.is_root
            assert [one.is_active for one in step.targets] == [True, False]

    trio.run(main)


def test_the_name_of_a_domain_leads_to_its_root_servers_which_are_asked_by_that_name() -> None:
    controller, root, target = FakeServer(), at(FIRST), at(SECOND)
    controller.refused_shares["data"] = ntstatus.STATUS_BAD_NETWORK_NAME
    name = f"\\{NAMESPACE}\\data"
    controller.tree.controls.referrals[name] = referral(
        name, "\\127.0.0.9\\data", f"\\{FIRST}\\data", is_root=True
    )
    root.share_flags = ShareFlags.DFS
    root.tree.controls.referrals[f"{name}\\link"] = referral(f"{name}\\link", f"\\{SECOND}\\share")

    async def main() -> None:
        config = engine.ConnectConfig(dfs_hosts=("127.0.0.9", *FRIENDS))
        async with reached("link", controller, root, target, config=config) as share:
            assert [step.is_root for step in share.dfs_steps()] == [True, False]
            assert [one.name for step in share.dfs_steps() for one in step.targets if one.is_active] == [
                f"\\\\{FIRST}\\data",
                f"\\\\{SECOND}\\share",
            ]

    trio.run(main)
    assert target.tree_connects == [f"\\\\{SECOND}\\share"]


def test_a_share_that_is_not_there_is_still_said_to_be_missing() -> None:
    server = FakeServer()
    server.refused_shares["data"] = ntstatus.STATUS_BAD_NETWORK_NAME
    fails(engine.NtStatusError, "STATUS_BAD_NETWORK_NAME", "folder", server)


def test_the_first_target_that_can_be_used_is_taken() -> None:
    server = namespace(
        link=["\\127.0.0.9\\off", f"\\{FIRST}\\gone", f"\\{FIRST}\\share", f"\\{SECOND}\\share"]
    )
    target = at(FIRST)
    target.refused_shares["gone"] = ntstatus.STATUS_BAD_NETWORK_NAME

    async def main() -> None:
        config = engine.ConnectConfig(dfs_hosts=("127.0.0.9", FIRST))
        async with reached("link", server, target, config=config):
            assert target.tree_connects[-1] == f"\\\\{FIRST}\\share"

    trio.run(main)
    assert len(target.peers) == 1  # one connection for both of its shares


def test_where_no_target_can_be_used_all_reasons_are_told() -> None:
    server = namespace(link=["\\127.0.0.9\\off", "\\127.0.0.10\\foreign"])
    config = engine.ConnectConfig(dfs_hosts=("127.0.0.9",))
    said = fails(engine.TransportError, "no target of", "link", server, config=config)
    assert "nothing listens" in said
    assert "dfs_hosts=127.0.0.10" in said


@pytest.mark.parametrize("credentials", [ACCOUNT, NOBODY], ids=["password", "anonymous"])
def test_the_password_does_not_go_to_a_foreign_host(credentials: engine.Credentials) -> None:
    server, thief = namespace(link=[f"\\{FIRST}\\share"]), at(FIRST)
    server.signing_required = thief.signing_required = False
    config = engine.ConnectConfig(signing=False)
    if credentials is ACCOUNT:
        match = f"leads to the host {FIRST}, to which the account was not sent.*dfs_hosts={FIRST}"
        fails(engine.ForeignHost, match, "link", server, thief, config=config)
        assert thief.peers == []
        return

    async def main() -> None:
        async with reached("link", server, thief, config=config, credentials=credentials):
            assert thief.tree_connects

    trio.run(main)


@pytest.mark.parametrize(
    ("kind", "password", "may"),
    [
        (engine.AuthKind.NTLM, "secret", True),
        (engine.AuthKind.NEGOTIATE, "secret", True),
        (engine.AuthKind.NEGOTIATE, "", False),
        (engine.AuthKind.KERBEROS, "secret", False),
        (engine.AuthKind.GUEST, "", False),
        (engine.AuthKind.ANONYMOUS, "", False),
    ],
)
def test_what_may_fall_back_to_ntlm_goes_to_no_foreign_host(
    kind: engine.AuthKind, password: str, may: bool
) -> None:
    assert may_send_ntlm(engine.Credentials("me", password, kind=kind)) is may


def test_an_account_that_is_refused_is_not_tried_at_the_next_target() -> None:
    server = namespace(link=[f"\\{FIRST}\\share", f"\\{SECOND}\\share"])
    first, second = at(FIRST), at(SECOND)
    first.refuses_accounts = True
    fails(engine.AuthError, "refused", "link", server, first, second)
    assert second.peers == []


@pytest.mark.parametrize(
    ("options", "demand", "match"),
    [
        ({"guest": True}, {}, "only as a guest"),
        ({"cipher": None}, {"seal": True}, "encryption is demanded"),
        ({"dialect": Dialect.SMB_2_1}, {"min_dialect": Dialect.SMB_3_0}, "dialect"),
    ],
)
def test_what_is_demanded_at_the_mount_holds_at_every_hop(
    options: ServerOptions, demand: dict[str, Any], match: str
) -> None:
    """CVE-2017-12151 was a client that forgot it at the second server."""
    server = namespace(link=[f"\\{FIRST}\\share"])
    target = at(FIRST, FakeServer(**options))
    config = engine.ConnectConfig(dfs_hosts=FRIENDS, **demand)
    fails(engine.SmbError, match, "link", server, target, config=config)
    assert target.tree_connects == []


def test_a_target_that_protects_less_is_passed_over() -> None:
    server = namespace(link=[f"\\{FIRST}\\share", f"\\{SECOND}\\share"])
    weak, strong = at(FIRST, FakeServer(cipher=None)), at(SECOND)

    async def main() -> None:
        config = engine.ConnectConfig(dfs_hosts=FRIENDS, seal=True)
        async with reached("link", server, weak, strong, config=config) as share:
            assert share.description.encrypted

    trio.run(main)
    assert Command.TREE_CONNECT not in weak.received


def test_links_in_a_circle_end() -> None:
    server, other = namespace(link=[f"\\{FIRST}\\data\\back"]), at(FIRST)
    other.share_flags = ShareFlags.DFS
    name = f"\\{FIRST}\\data\\back"
    other.tree.controls.referrals[name] = referral(name, f"\\{NAMESPACE}\\data\\link")
    fails(engine.RemoteProtocolError, "go in a circle", "link", server, other)


def test_a_server_that_always_leads_on_is_left() -> None:
    class LeadsOn(dict[str, DfsReferralResponse]):
        """An answer to every question: one folder further down."""

        def __contains__(self, name: object) -> bool:
            return True

        def __getitem__(self, name: str) -> DfsReferralResponse:
            return referral(name, f"{name}\\more")

    server = namespace()
    server.tree.controls.referrals = LeadsOn()
    fails(engine.RemoteProtocolError, "more than 16 times", "link", server)


def test_a_referral_that_does_not_fit_is_asked_for_again_with_more_room() -> None:
    many = [f"\\{'x' * 90}{number}\\share" for number in range(250)]
    server, target = namespace(link=[f"\\{FIRST}\\share", *many]), at(FIRST)

    async def main() -> None:
        async with reached("link", server, target) as share:
            assert len(share.dfs_steps()[0].targets) == 251

    trio.run(main)
    assert server.received.count(Command.IOCTL) == 2


class AnswersOneByOne(Controls):
    """Does not take what is asked in the frame that connects to the share."""

    asked = 0

    def answer_tree(self, code: int, data: memoryview) -> bytes:
        self.asked += 1
        if self.asked == 1:
            raise Refused(ntstatus.STATUS_NETWORK_NAME_DELETED)
        return super().answer_tree(code, data)


def test_a_server_that_takes_no_question_with_the_connection_to_its_share_is_asked_again() -> None:
    server, target = namespace(link=[f"\\{FIRST}\\share"]), at(FIRST)
    server.tree.controls = AnswersOneByOne(referrals=server.tree.controls.referrals)

    async def main() -> None:
        async with reached("link", server, target) as share:
            assert len(share.dfs_steps()) == 1
            trips = share.statistics().trips
            assert (trips["TREE_CONNECT+IOCTL"], trips["IOCTL"]) == (1, 1)

    trio.run(main)


LINK: Final = f"\\{NAMESPACE}\\data\\link"
MANY: Final = [f"\\h{number}\\x" for number in range(300)]


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (referral(LINK, *MANY), "300 targets"),
        (referral(LINK, f"\\{FIRST}\\x", consumed=65535), "is about 65535 bytes"),
        (referral(LINK, f"\\{FIRST}\\x", consumed=0), "is about 0 bytes"),
        (referral(LINK), "no target"),
        (referral(LINK, "", "\\", "\\x", "x\\y"), "no target"),
    ],
    ids=["too many", "consumed beyond", "consumed nothing", "none", "no shares"],
)
def test_answers_that_make_no_sense_lead_nowhere(answer: DfsReferralResponse, match: str) -> None:
    server = namespace(link=answer)
    fails(engine.SmbError, match, "link", server, at(FIRST))


def test_a_referral_without_an_end_is_given_up() -> None:
    server = namespace()
    server.tree.controls.refusal = ntstatus.STATUS_BUFFER_OVERFLOW, bytes(1000)
    fails(engine.RemoteProtocolError, "does not fit into any room", "link", server)
    assert server.received.count(Command.IOCTL) == 2


@pytest.mark.parametrize("change", ["unlink", "rename", "mkdir", "open", "write"])
def test_another_server_cannot_tell_what_became_of_a_change(
    change: str, expected_warnings: ExpectedWarnings
) -> None:
    """The first one carried it out and did not say so; the second one's files are others."""
    expected_warnings.allow("is replaced by")
    server = namespace(link=[f"\\{FIRST}\\share", f"\\{SECOND}\\share"])
    first = KeepsWaiting(Command.SET_INFO, Command.CREATE, armed=False)
    second = at(SECOND)
    for target in (first, second):
        target.tree.add_file("file", b"content")

    async def make(share: engine.Share) -> None:
        match change:
            case "unlink":
                await share.unlink("file", file_id=2)
            case "rename":
                await share.rename("file", "other", replace=False, file_id=2)
            case "mkdir":
                await share.mkdir("new")
            case "open":
                await share.open("new", disposition=engine.Disposition.CREATE)
            case _:
                await share.write_file("new", b"content")

    async def lose(first: KeepsWaiting) -> None:
        await first.until(lambda: bool(first.held))
        first.refused_shares["share"] = ntstatus.STATUS_BAD_NETWORK_NAME
        first.hang_up()

    async def main() -> None:
        config = engine.ConnectConfig(dfs_hosts=FRIENDS, reconnect=True)
        async with (
            reached("link", server, at(FIRST, first), second, config=config) as share,
            trio.open_nursery() as nursery,
        ):
            first.armed = True
            nursery.start_soon(lose, first)
            with pytest.raises(engine.TransportError, match="what became of it is not known"):
                await make(share)
            assert (await share.stat("file")).size == 7

    trio.run(main)
    assert list(second.tree.root.children) == ["file"]
    assert not second.tree.opens


def test_a_target_that_is_not_wanted_any_more_once_it_is_reached_is_left_again() -> None:
    """As where the one before is back in the same moment."""
    server = namespace(link=[f"\\{FIRST}\\share", f"\\{SECOND}\\share"])
    first, second = at(FIRST), at(SECOND)

    async def main() -> None:
        async with reached("link", server, first, second) as share:
            resolver, before = share._resolver, share.dfs_steps()
            assert resolver is not None
            way = Way(parse_unc(server.unc), ACCOUNT, engine.ConnectConfig(dfs_hosts=FRIENDS))
            with pytest.raises(engine.TransportError, match="not wanted any more"):
                async with resolver.arrive(way, DEADLINE, DEADLINE, leave=True, is_wanted=lambda: False):
                    pytest.fail("arrived")
            await second.until(lambda: Command.LOGOFF in second.received)
            (now,) = share.dfs_steps()
            assert now.targets == before[0].targets

    trio.run(main)
    assert second.tree_connects == [f"\\\\{SECOND}\\share"]


@pytest.mark.parametrize("life", [0, 2**32 - 1])
def test_a_time_to_live_of_nothing_or_for_ever_does_no_harm(life: int) -> None:
    name = f"\\{NAMESPACE}\\data\\link"
    server, target = namespace(link=referral(name, f"\\{FIRST}\\share", life=life)), at(FIRST)

    async def main() -> None:
        async with reached("link", server, target) as share:
            assert 0 < share.dfs_steps()[0].seconds_left <= 86_400

    trio.run(main)
    assert server.received.count(Command.IOCTL) == 1


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "expected"),
    [
        ("fs1.example.com", "FS1.Example.Com.", (), True),
        ("fs1.example.com", "fs2.example.com", (), True),
        ("fs1.example.com", "fs2.branch.example.com", (), True),
        ("example.com", "fs1.example.com", (), True),
        ("example.com", "evil.com", (), False),
        ("fs1.example.com", "fs1.example.com.evil.net", (), False),
        ("fs1.example.com", "evilexample.com", (), False),
        ("example.co.uk", "evil.co.uk", (), False),
        ("example.co.uk", "fs.example.co.uk", (), True),
        ("fs.example.co.uk", "fs2.example.co.uk", (), True),
        ("fs1.example.de", "fs2.example.de", (), True),
        ("nas", "nas", (), True),
        ("nas", "other", (), False),
        ("nas", "nas.example.com", (), False),
        ("fs1.example.com", "fs2", (), False),
        ("10.0.0.1", "10.0.0.1", (), True),
        ("10.0.0.1", "11.0.0.1", (), False),
        ("::1", "[::1]", (), True),
        ("nas", "other", ("Other",), True),
        ("nas", "a.branch.net", ("*.branch.net",), True),
        ("nas", "branch.net", ("*.branch.net",), False),
        ("nas", "evilbranch.net", ("*.branch.net",), False),
        ("nas", "10.0.0.1", ("10.0.0.1",), True),
    ],
)
def test_where_an_account_may_be_used(
    origin: str, host: str, allowed: tuple[str, ...], expected: bool
) -> None:
    assert may_log_on(origin, host, allowed) is expected
