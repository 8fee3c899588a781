"""A distributed tree in a real domain: the way through it by ticket, whom it believes, and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio

import engine
from engine import (
    AuthError,
    AuthKind,
    ConnectConfig,
    Credentials,
    Dialect,
    ForeignHost,
    RemoteProtocolError,
    Share,
    TicketError,
    TicketSource,
)
from tests.integration.support_engine import in_trio, listing
from tests.support.domain import ALIAS, HOST, NETBIOS_DOMAIN, PASSWORD, USER
from tests.support.domain_tree import DOMAIN_NAME, FOREIGN, DomainTree
from tests.support.names import Names

pytestmark = pytest.mark.deadline(120)

WITH_PASSWORD = Credentials(USER, PASSWORD, NETBIOS_DOMAIN)
"""By NTLM."""


@pytest.fixture(autouse=True)
def _in_the_domain(domain_tree: DomainTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5_CONFIG", str(domain_tree.domain.krb5_conf))
    monkeypatch.delenv("KRB5CCNAME", raising=False)


@pytest.fixture(scope="module")
def by_ticket(_domain_tree: DomainTree, tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    """A cache with a ticket of the user."""
    cache = _domain_tree.domain.kinit(tmp_path_factory.mktemp("tickets") / "cache")
    return Credentials(kind=AuthKind.KERBEROS, tickets=TicketSource(cache=cache))


@pytest.fixture
def tree(domain_tree: DomainTree) -> DomainTree:
    """The tree with two links, both to a folder of each member."""
    for member, name in ((domain_tree.first, "first"), (domain_tree.second, "second")):
        domain_tree.put(member, "folder/here", name)
        domain_tree.put(member, "folder/deep/er/here", f"deep in {name}")
    folders = [
        domain_tree.target(member, "data\\folder") for member in (domain_tree.first, domain_tree.second)
    ]
    domain_tree.link("link", *folders)
    domain_tree.link("back", *folders[::-1])
    return domain_tree


@asynccontextmanager
async def reached(
    tree: DomainTree,
    path: str,
    credentials: Credentials,
    *,
    names: dict[str, str] | None = None,
    **options: Any,
) -> AsyncGenerator[Share, None]:
    trio.socket.set_custom_hostname_resolver(Names({**tree.names, **(names or {})}))
    config = ConnectConfig(port=tree.port, **options)
    async with engine.connect(f"//{path}", credentials, config) as share:
        yield share


async def content(share: Share) -> str:
    """That of its file `here`."""
    return (await share.read_file("here", 100)).decode()


# By ticket


@pytest.mark.parametrize("host", [DOMAIN_NAME, DOMAIN_NAME.upper(), f"{DOMAIN_NAME}.", HOST])
@pytest.mark.parametrize("path", ["dfs/link", "dfs/link/deep/er", "DFS/Back"])
@in_trio
async def test_a_link_of_the_domain_is_reached_by_ticket(
    tree: DomainTree, by_ticket: Credentials, host: str, path: str
) -> None:
    member = tree.second if path.endswith("Back") else tree.first
    async with reached(tree, f"{host}/{path}", by_ticket) as share:
        ticket = share.description.ticket
        assert ticket is not None
        assert ticket.spn == f"cifs/{member.name}"
        assert (await content(share)).endswith("second" if member is tree.second else "first")


@pytest.mark.parametrize("dialect", list(Dialect))
@in_trio
async def test_every_dialect(tree: DomainTree, by_ticket: Credentials, dialect: Dialect) -> None:
    async with reached(
        tree, f"{DOMAIN_NAME}/dfs/link", by_ticket, min_dialect=dialect, max_dialect=dialect
    ) as share:
        assert share.description.dialect is dialect
        assert await content(share) == "first"


@in_trio
async def test_the_domain_s_own_shares_are_reached_by_its_name(
    tree: DomainTree, by_ticket: Credentials
) -> None:
    async with reached(tree, f"{DOMAIN_NAME}/sysvol", by_ticket) as share:
        assert share.description.ticket is not None
        assert share.description.ticket.spn == f"cifs/{HOST}"
        assert (await share.stat(DOMAIN_NAME)).is_directory


@in_trio
async def test_a_password_gets_the_tickets_of_every_hop(tree: DomainTree) -> None:
    for kind in (AuthKind.KERBEROS, AuthKind.NEGOTIATE):
        async with reached(tree, f"{DOMAIN_NAME}/dfs/link", Credentials(USER, PASSWORD, kind=kind)) as share:
            assert share.description.authentication == "Kerberos"
            assert await content(share) == "first"


@pytest.mark.parametrize("hop", ["controller", "member"])
@in_trio
async def test_encryption_is_demanded_of_each_hop(tree: DomainTree, by_ticket: Credentials, hop: str) -> None:
    async with reached(tree, f"{DOMAIN_NAME}/dfs/link", by_ticket, seal=True) as share:
        assert share.description.encrypted
        assert await content(share) == "first"
    tree.link("alone", tree.target(tree.first, "data\\folder"))
    server = tree.domain if hop == "controller" else tree.first
    with server.configured(server_smb_encrypt="off"):
        async with reached(tree, f"{DOMAIN_NAME}/dfs/alone", by_ticket) as share:
            assert not share.description.encrypted
        with pytest.raises(RemoteProtocolError, match="encryption is demanded"):
            async with reached(tree, f"{DOMAIN_NAME}/dfs/alone", by_ticket, seal=True):
                pass


@in_trio
async def test_links_lead_to_another_namespace_and_on(tree: DomainTree, by_ticket: Credentials) -> None:
    """From the domain's root to one of a member's own, and from there to the other member."""
    tree.link("inter", tree.target(tree.first, "dfs"))
    tree.link("below/next", tree.target(tree.second, "data\\folder"), server=tree.first)
    for path in (f"{DOMAIN_NAME}/dfs/inter/below/next", f"{tree.first.name}/dfs/below/next"):
        async with reached(tree, path, by_ticket) as share:
            assert await content(share) == "second"
            assert share.description.ticket is not None
            assert share.description.ticket.spn == f"cifs/{tree.second.name}"


# Who is believed


@in_trio
async def test_a_member_that_answers_to_the_domain_s_name_is_not_believed(
    tree: DomainTree, by_ticket: Credentials
) -> None:
    """It has a key of its own in the domain, and tells its own name; but it is no controller."""
    tree.link("link", tree.target(tree.second, "data"), server=tree.first)
    names = {DOMAIN_NAME: tree.first.address}
    said = f"calls itself {tree.first.name}, and that the domain does not know as one of its controllers"
    with pytest.raises(TicketError, match=said) as caught:
        async with reached(tree, f"{DOMAIN_NAME}/dfs/link", by_ticket, names=names):
            pass
    assert caught.value.stage == "log-on"


@in_trio
async def test_another_name_of_a_server_is_not_looked_into(tree: DomainTree, by_ticket: Credentials) -> None:
    """What the server calls itself is no host below that name."""
    with pytest.raises(TicketError, match=f"knows no service cifs/{FOREIGN}: "):
        async with reached(tree, f"{FOREIGN}/data", by_ticket):
            pass
    async with reached(tree, f"{ALIAS}/data", by_ticket, names={ALIAS: tree.domain.address}) as share:
        assert share.description.ticket is not None
        assert share.description.ticket.spn == f"cifs/{ALIAS}"


@in_trio
async def test_a_password_goes_to_hosts_of_the_domain_and_those_that_are_allowed(tree: DomainTree) -> None:
    both = replace(WITH_PASSWORD, kind=AuthKind.NEGOTIATE)
    tree.link("abroad", f"{FOREIGN}\\data\\folder")
    for account in (WITH_PASSWORD, both):
        for host in (DOMAIN_NAME, HOST):
            async with reached(tree, f"{host}/dfs/back", account) as share:
                assert await content(share) == "second"
        with pytest.raises(ForeignHost, match=f"dfs_hosts={FOREIGN}"):
            async with reached(tree, f"{DOMAIN_NAME}/dfs/abroad", account):
                pass
        async with reached(tree, f"{DOMAIN_NAME}/dfs/abroad", account, dfs_hosts=(FOREIGN,)) as share:
            assert share.description.authentication == "NTLM"
            assert await content(share) == "first"


@in_trio
async def test_a_target_whose_name_the_domain_does_not_know_is_passed_over(
    tree: DomainTree, by_ticket: Credentials
) -> None:
    tree.link("abroad", f"{FOREIGN}\\data\\folder", tree.target(tree.second, "data\\folder"))
    async with reached(tree, f"{DOMAIN_NAME}/dfs/abroad", by_ticket) as share:
        assert await content(share) == "second"


@in_trio
async def test_a_user_without_rights_is_not_tried_at_every_target(tree: DomainTree) -> None:
    wrong = Credentials(USER, "wrong", NETBIOS_DOMAIN)
    with pytest.raises(AuthError, match="refused"):
        async with reached(tree, f"{DOMAIN_NAME}/dfs/link", wrong):
            pass


# What it costs

DIRECT = Counter({"NEGOTIATE": 1, "SESSION_SETUP": 1, "TREE_CONNECT": 1})


@in_trio
async def test_the_namespace_costs_one_round_trip_beyond_a_mount_of_its_own(
    tree: DomainTree, by_ticket: Credentials
) -> None:
    """So two beyond the log-on there, and by the domain's name one to learn the controller's. LOGOFF is not
    waited for."""
    costs = {}
    for host in (tree.first.name, HOST, DOMAIN_NAME):
        path = "data/folder" if host == tree.first.name else "dfs/link"
        async with reached(tree, f"{host}/{path}", by_ticket) as share:
            costs[host] = Counter(share.statistics().trips)
    assert costs[tree.first.name] == DIRECT
    there = DIRECT + DIRECT + Counter({"TREE_CONNECT+IOCTL": 1, "LOGOFF": 1})
    assert costs[HOST] == there
    assert costs[DOMAIN_NAME] == there + Counter({"SESSION_SETUP": 1})


@in_trio
async def test_below_a_link_nothing_is_asked_of_the_namespace(
    tree: DomainTree, by_ticket: Credentials
) -> None:
    async def work(share: Share) -> Counter[str]:
        before = Counter(share.statistics().trips)
        await share.stat("here")
        await share.stat("deep\\er\\here")
        assert await content(share)
        assert [entry.name for entry in await listing(share, "deep")] == ["er"]
        return Counter(share.statistics().trips) - before

    async with reached(tree, f"{tree.first.name}/data/folder", by_ticket) as share:
        direct = await work(share)
    async with reached(tree, f"{DOMAIN_NAME}/dfs/link", by_ticket) as share:
        assert await work(share) == direct
