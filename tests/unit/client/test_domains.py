"""Short names in a distributed tree: which hosts they lead to, and who is asked about them."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

import engine
from engine import ntstatus
from engine.client.domains import ShortNames
from engine.proto.referrals import NameList
from engine.wire.constants import ShareFlags
from engine.wire.dfs import DfsEntryFlags, DfsHeaderFlags, DfsReferral, DfsReferralResponse
from tests.fakes.server import DOMAIN, FakeServer
from tests.support.names import Names
from tests.unit.client.support import ACCOUNT, NOBODY
from tests.unit.client.support_dfs import at, referral, served

CONTROLLER: Final = "127.0.0.1"
FILES: Final = "127.0.0.2"
IN_DOMAIN: Final = dataclasses.replace(ACCOUNT, domain=DOMAIN)


class Asked(Names):
    """Remembers what it was asked for. The dots of names are given as `_`."""

    def __init__(self, **addresses: str) -> None:
        super().__init__({name.replace("_", "."): address for name, address in addresses.items()})
        self.asked: list[str] = []

    async def getaddrinfo(self, host: bytes | None, *arguments: Any, **more: Any) -> list[Any]:
        assert host is not None
        self.asked.append(host.decode().lower())
        return await super().getaddrinfo(host, *arguments, **more)


def names(**controllers: tuple[str, ...]) -> DfsReferralResponse:
    """An answer about domains; `_` is a dot."""
    flags = DfsEntryFlags.NAME_LIST_REFERRAL
    lists = [
        DfsReferral(
            3,
            referral_entry_flags=flags,
            time_to_live=600,
            special_name="\\" + name.replace("_", "."),
            expanded_names=["\\" + host for host in hosts],
        )
        for name, hosts in controllers.items()
    ]
    return DfsReferralResponse(0, DfsHeaderFlags(0), lists)


def controller(*controllers: str) -> FakeServer:
    """A controller of the domain EXAMPLE, which is example.test, without a share of its own."""
    server = FakeServer()
    server.refused_shares["data"] = ntstatus.STATUS_BAD_NETWORK_NAME
    server.tree.controls.referrals[""] = names(EXAMPLE=(), example_test=())
    server.tree.controls.referrals["\\EXAMPLE"] = names(EXAMPLE=controllers)
    return server


def test_the_servers_of_a_tree_are_in_the_domain_that_was_asked_for() -> None:
    root, target = at(CONTROLLER), at(FILES)
    root.share_flags = ShareFlags.DFS | ShareFlags.DFS_ROOT
    name = "\\ns.example.test\\data\\link"
    root.tree.controls.referrals[name] = referral(name, "\\FS1\\share")
    target.tree.add_file("here", b"there")
    resolver = Asked(ns_example_test=CONTROLLER, fs1_example_test=FILES)

    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(resolver)
        async with served("", root, target):
            unc = f"//ns.example.test:{root.port}/data/link"
            async with engine.connect(unc, ACCOUNT) as share:
                assert await share.read_file("here", 10) == b"there"
                (step,) = share.dfs_steps()
                assert [(one.name, one.is_active) for one in step.targets] == [("\\\\FS1\\share", True)]

    trio.run(main)
    assert target.tree_connects == ["\\\\FS1.example.test\\share"]
    assert resolver.asked[1:] == ["fs1.ns.example.test", "fs1.example.test", "fs1.example.test"]


def test_a_domain_is_found_by_its_short_name() -> None:
    server, files = controller("DC1", "dc2.example.test"), at(FILES)
    name = "\\EXAMPLE\\data"
    server.tree.controls.referrals[name] = referral(name, f"\\{FILES}\\share", is_root=True)
    files.tree.add_folder("folder")
    files.tree.add_file("folder\\here", b"there")
    resolver = Asked(example_test=CONTROLLER, dc2_example_test=CONTROLLER)

    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(resolver)
        async with served("", server, files):
            config = engine.ConnectConfig(dfs_hosts=("*.example.test", "example.test", FILES))
            unc = f"//EXAMPLE:{server.port}/data/folder"
            async with engine.connect(unc, IN_DOMAIN, config) as share:
                assert await share.read_file("here", 10) == b"there"
                (step,) = share.dfs_steps()
                assert (step.name, step.is_root) == ("\\\\EXAMPLE\\data", True)

    trio.run(main)
    assert files.tree_connects == [f"\\\\{FILES}\\share"]
    assert resolver.asked[-3:] == ["example.test", "dc1.example.test", "dc2.example.test"]


def test_a_short_name_that_nobody_knows_is_told_as_it_was_given() -> None:
    server = controller("DC1")
    resolver = Asked(example_test=CONTROLLER)

    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(resolver)
        async with served("", server):
            config = engine.ConnectConfig(dfs_hosts=("example.test",))
            with pytest.raises(engine.HostUnknown, match="'nosuch' cannot be resolved"):
                async with engine.connect(f"//nosuch:{server.port}/data", IN_DOMAIN, config):
                    pytest.fail("connected")

    trio.run(main)
    assert server.tree_connects == ["\\\\example.test\\IPC$"]


def test_the_account_is_not_sent_to_a_controller_that_was_not_asked_for() -> None:
    server = controller("DC1")

    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(Asked(example_test=CONTROLLER))
        async with served("", server):
            with pytest.raises(engine.HostUnknown):
                async with engine.connect(f"//EXAMPLE:{server.port}/data", IN_DOMAIN):
                    pytest.fail("connected")

    trio.run(main)
    assert server.peers == []


def test_without_a_domain_nobody_is_asked() -> None:
    resolver = Asked()

    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(resolver)
        for unc in ("//nosuch/data", "//nosuch.example.test/data"):
            with pytest.raises(engine.TransportError):
                async with engine.connect(unc, ACCOUNT):
                    pytest.fail("connected")

    trio.run(main)
    assert resolver.asked == ["nosuch", "nosuch.example.test"]


class Silent(Asked):
    """Never answers for a name with a dot."""

    async def getaddrinfo(self, host: bytes | None, *arguments: Any, **more: Any) -> list[Any]:
        if host is not None and b"." in host:
            await trio.sleep_forever()
        return await super().getaddrinfo(host, *arguments, **more)


def test_a_name_service_that_is_silent_is_not_waited_for_longer_than_the_timeout() -> None:
    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(Silent())
        with trio.fail_after(5), pytest.raises(engine.HostUnknown, match="'fs1' cannot be resolved"):
            async with engine.connect("//fs1/data", IN_DOMAIN, engine.ConnectConfig(timeout=0.2)):
                pytest.fail("connected")

    trio.run(main)


class Controllers:
    """What `ShortNames` asks; counts it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.life = 60.0
        self.domains: tuple[str, ...] = ("EXAMPLE", "example.test", "OTHER")

    async def ask(self, host: str, domain: str) -> list[NameList]:
        self.asked.append((host, domain))
        ends = trio.current_time() + self.life
        if host != "example.test":
            raise engine.HostUnknown(f"{host} cannot be resolved")
        if domain:
            return [NameList(domain, ("DC1", "dc2.other.test"), ends)]
        return [NameList(name, (), ends) for name in self.domains]


def test_what_controllers_said_is_kept_until_it_expires() -> None:
    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(Asked())
        short, controllers = ShortNames("dc1.example.test"), Controllers()

        async def hosts(name: str) -> list[str]:
            return await short.hosts(name, 445, NOBODY, controllers.ask)

        found = ["DC1.example.test", "dc2.other.test"]
        assert await hosts("example") == found
        asked = [("dc1.example.test", ""), ("example.test", ""), ("example.test", "example")]
        assert controllers.asked == asked
        assert await hosts("EXAMPLE") == found
        assert await hosts("nosuch") == []
        assert controllers.asked[3:] == [("dc1.example.test", "")] * 2
        await trio.sleep(61)
        assert await hosts("OTHER") == found
        assert controllers.asked[6:] == [("example.test", ""), ("example.test", "OTHER")]

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_domain_that_does_not_know_a_name_is_not_the_last_that_is_asked() -> None:
    async def ask(host: str, domain: str) -> list[NameList]:
        known = "OTHER" if host == "other.test" else "EXAMPLE"
        return [NameList(domain or known, ("dc.other.test",) if domain else (), trio.current_time() + 60)]

    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(Names({}))
        account = dataclasses.replace(ACCOUNT, domain="other.test")
        short = ShortNames("dc1.example.test")
        assert await short.hosts("OTHER", 445, account, ask) == ["dc.other.test"]

    trio.run(main)
