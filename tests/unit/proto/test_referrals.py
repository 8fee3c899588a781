"""What is made of referrals, honest ones and lies, and the way that they lead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RemoteProtocolError
from engine.proto.referrals import (
    LONGEST_LIFE,
    MAX_ENTRIES,
    MAX_HOPS,
    MAX_NAMES,
    MAX_TARGETS,
    MAX_VISITS,
    SHORTEST_LIFE,
    Entry,
    Match,
    NameList,
    Place,
    ReferralCache,
    Target,
    Walk,
    join_name,
    read_names_untrusted,
    read_untrusted,
    split_name,
)
from engine.wire.dfs import DfsEntryFlags, DfsHeaderFlags, DfsReferral, DfsReferralResponse

LINK: Final = ("srv", "dfs", "link")
STORAGE: Final = DfsHeaderFlags.STORAGE_SERVERS
BOTH: Final = DfsHeaderFlags.STORAGE_SERVERS | DfsHeaderFlags.REFERRAL_SERVERS


def size(name: Sequence[str]) -> int:
    return len(join_name(tuple(name)).encode("utf-16-le", "surrogatepass"))


def response(
    *addresses: str,
    consumed: int = size(LINK),
    flags: int = STORAGE,
    version: int = 4,
    kind: int = 0,
    life: int = 600,
    boundaries: Sequence[int] = (),
) -> DfsReferralResponse:
    """A referral with these targets; a set of them begins at each of `boundaries`."""
    entries = [
        DfsReferral(
            version,
            network_address=address,
            dfs_path="\\srv\\dfs\\link",
            server_type=kind,
            time_to_live=life,
            referral_entry_flags=DfsEntryFlags.TARGET_SET_BOUNDARY if index in boundaries else 0,
        )
        for index, address in enumerate(addresses)
    ]
    return DfsReferralResponse(consumed, flags, entries)


def entry_of(name: str, *targets: str, is_root: bool = False, expires: float = 100.0) -> Entry:
    return Entry(split_name(name), is_root, tuple(Target(split_name(one)) for one in targets), expires)


def place_of(text: str) -> Place:
    return Place(split_name(text), split_name(text))


# Reading


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_targets_of_a_link_in_the_servers_order(version: int) -> None:
    found = read_untrusted(
        (*LINK, "deep", "er"), response("\\b\\two\\sub", "\\a\\one", version=version), now=1000.0
    )
    assert found.name == LINK
    assert [target.place for target in found.order] == [("b", "two", "sub"), ("a", "one")]
    assert not found.is_root
    assert found.expires == (1300.0 if version == 1 else 1600.0)


def test_sets_of_the_same_cost_are_told_apart_by_version_4_alone() -> None:
    answer = response("\\a\\x", "\\b\\x", "\\c\\x", boundaries=(0, 2))
    assert [target.group for target in read_untrusted(LINK, answer, 0).targets] == [0, 0, 1]
    answer = response("\\a\\x", "\\b\\x", "\\c\\x", boundaries=(0, 2), version=3)
    assert [target.group for target in read_untrusted(LINK, answer, 0).targets] == [0, 0, 0]


def test_roots_links_and_interlinks_are_told_apart() -> None:
    root = read_untrusted(
        ("srv", "dfs"), response("\\srv\\dfs", consumed=size(("srv", "dfs")), flags=BOTH, kind=1), 0
    )
    assert (root.is_root, root.is_interlink) == (True, False)
    link = read_untrusted(LINK, response("\\a\\x"), 0)
    assert (link.is_root, link.is_interlink) == (False, False)
    interlink = read_untrusted(LINK, response("\\a\\x", flags=DfsHeaderFlags.REFERRAL_SERVERS), 0)
    assert (interlink.is_root, interlink.is_interlink) == (False, True)


@pytest.mark.parametrize("life", [0, 1, 2**32 - 1])
def test_a_time_to_live_is_neither_none_nor_for_ever(life: int) -> None:
    expires = read_untrusted(LINK, response("\\a\\x", life=life), 50.0).expires
    assert 50.0 + SHORTEST_LIFE <= expires <= 50.0 + LONGEST_LIFE


@pytest.mark.parametrize(
    "consumed",
    [
        0,
        1,
        2,
        size(("srv",)),
        size(("srv", "dfs")) - 2,
        size(LINK) - 1,
        size(LINK) - 4,
        size(LINK) + 2,
        65535,
    ],
)
def test_an_answer_about_something_else_is_refused(consumed: int) -> None:
    with pytest.raises(RemoteProtocolError, match="which is no part of it"):
        read_untrusted(LINK, response("\\a\\x", consumed=consumed), 0)


def test_a_separator_may_be_counted_as_consumed() -> None:
    asked = (*LINK, "deep")
    assert read_untrusted(asked, response("\\a\\x", consumed=size(LINK) + 2), 0).name == LINK


@pytest.mark.parametrize(
    "address",
    [
        *(
            "",
            "\\",
            "\\a",
            "a\\b",
            "\\a\\..",
            "\\.\\b",
            "\\a\\b\\..\\c",
            "\\a/b\\c",
            "\\a\\b\0c",
            "\\a\\b\nc",
        ),
        *("\\" + "a" * 256 + "\\b", "\\a" * 10_000, "\\a\\b\0c", "\\a\\b\nc"),
    ],
)
def test_targets_that_are_none_are_left_out_and_none_left_is_an_error(address: str) -> None:
    # What the wire cannot carry is taken away by the decoder; the rest is looked at here.
    found = read_untrusted(LINK, response(address, "\\good\\share"), 0)
    assert [target.place for target in found.targets] == [("good", "share")]
    with pytest.raises(RemoteProtocolError, match="names no target that could be used"):
        read_untrusted(LINK, response(address), 0)


def test_no_targets_and_too_many() -> None:
    with pytest.raises(RemoteProtocolError, match="names no target that could be used"):
        read_untrusted(LINK, response(), 0)
    many = [f"\\server{number}\\share" for number in range(MAX_TARGETS + 1)]
    with pytest.raises(RemoteProtocolError, match="has 257 targets where 256 are taken"):
        read_untrusted(LINK, response(*many), 0)
    assert len(read_untrusted(LINK, response(*many[1:]), 0).targets) == MAX_TARGETS


def test_a_list_of_names_is_no_target() -> None:
    names = DfsReferral(
        3,
        referral_entry_flags=DfsEntryFlags.NAME_LIST_REFERRAL,
        special_name="\\dom",
        expanded_names=("\\dc",),
    )
    with pytest.raises(RemoteProtocolError, match="names no target that could be used"):
        read_untrusted(LINK, DfsReferralResponse(size(LINK), 0, (names,)), 0)


def list_of(name: str, *hosts: str, life: int = 600) -> DfsReferral:
    flags = DfsEntryFlags.NAME_LIST_REFERRAL
    return DfsReferral(
        3, referral_entry_flags=flags, time_to_live=life, special_name=name, expanded_names=hosts
    )


def test_domains_and_their_controllers() -> None:
    told = [list_of("\\EXAMPLE"), list_of("example.test", "\\dc1.example.test", "\\DC2", life=10)]
    assert read_names_untrusted(DfsReferralResponse(0, 0, told), 100.0) == [
        NameList("EXAMPLE", (), 700.0),
        NameList("example.test", ("dc1.example.test", "DC2"), 110.0),
    ]


@pytest.mark.parametrize("name", ["", "\\", "\\a\\b", "..", "a/b", "a:1", "a\nb", "x" * 256])
def test_what_cannot_be_a_domain_or_a_controller_is_left_out(name: str) -> None:
    told = [list_of(name, "\\dc"), list_of("good", name, "\\dc"), *response("\\a\\x").referrals]
    assert [one[:2] for one in map(astuple, read_names_untrusted(DfsReferralResponse(0, 0, told), 0.0))] == [
        ("good", ("dc",))
    ]


def test_too_many_domains_are_refused() -> None:
    told = [list_of(str(number)) for number in range(MAX_NAMES)]
    assert len(read_names_untrusted(DfsReferralResponse(0, 0, told), 0.0)) == MAX_NAMES
    with pytest.raises(RemoteProtocolError, match="a list of domains has 4097 names"):
        read_names_untrusted(DfsReferralResponse(0, 0, [*told[1:], list_of("a", "b")]), 0.0)


def test_a_target_that_comes_twice_is_one() -> None:
    found = read_untrusted(LINK, response("\\A\\x", "\\b\\x", "\\a\\X"), 0)
    assert [target.place for target in found.targets] == [("A", "x"), ("b", "x")]


@given(
    st.lists(st.text(min_size=1, max_size=8).filter(lambda part: "\\" not in part), min_size=1, max_size=6),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.lists(
        st.builds(
            DfsReferral,
            version=st.integers(1, 4),
            network_address=st.text(st.sampled_from("\\aß.*\0/"), max_size=12),
            server_type=st.integers(0, 65535),
            referral_entry_flags=st.integers(0, 65535),
            time_to_live=st.integers(0, 2**32 - 1),
        ),
        max_size=5,
    ),
)
def test_whatever_is_answered_is_an_entry_about_what_was_asked_or_refused(
    asked: list[str], consumed: int, flags: int, referrals: list[DfsReferral]
) -> None:
    try:
        found = read_untrusted(tuple(asked), DfsReferralResponse(consumed, flags, referrals), 10.0)
    except RemoteProtocolError:
        return
    assert found.name == tuple(asked)[: len(found.name)]
    assert len(found.name) >= 2
    assert found.targets
    assert all(len(target.place) >= 2 for target in found.targets)
    assert sorted(found.order, key=repr) == sorted(found.targets, key=repr)


# The cache


def test_the_longest_name_counts_whole_parts_and_no_case() -> None:
    cache = ReferralCache()
    root, link, below = (
        entry_of("\\Srv\\DFS", "\\srv\\dfs", is_root=True),
        entry_of("\\srv\\dfs\\Link", "\\a\\x"),
        entry_of("\\srv\\dfs\\link\\a\\b", "\\b\\x"),
    )
    for entry in (link, root, below):
        cache.add(entry)
    assert cache.lookup(("SRV", "dfs", "LINK", "A", "c"), 0) == Match(link, ("A", "c"))
    assert cache.lookup(("srv", "dfs", "linked"), 0) == Match(root, ("linked",))
    assert cache.lookup(("srv", "dfs", "link", "a", "b"), 0) == Match(below, ())
    assert cache.lookup(("srv", "dfsroot"), 0) is None
    assert cache.lookup(("srv",), 0) is None


def test_what_has_expired_is_not_believed() -> None:
    cache = ReferralCache()
    root = entry_of("\\srv\\dfs", "\\srv\\dfs", is_root=True, expires=20.0)
    cache.add(root)
    cache.add(entry_of("\\srv\\dfs\\link", "\\a\\x", expires=10.0))
    found = cache.lookup(LINK, 10.0)
    assert found is not None
    assert found.entry is root
    assert cache.lookup(LINK, 20.0) is None


def test_the_cache_is_bounded() -> None:
    cache = ReferralCache()
    for number in range(MAX_ENTRIES + 10):
        cache.add(entry_of(f"\\srv\\dfs\\link{number}", "\\a\\x", expires=float(number + 1)))
    assert len(cache) == MAX_ENTRIES
    assert cache.lookup(("srv", "dfs", "link9"), 0) is None
    assert cache.lookup(("srv", "dfs", "link10"), 0) is not None


@pytest.mark.parametrize("fails_back", [False, True])
def test_the_target_that_worked_is_first_until_the_tree_fails_back(fails_back: bool) -> None:
    cache = ReferralCache()
    first = entry_of("\\srv\\dfs\\link", "\\a\\x", "\\b\\x", "\\c\\x")
    cache.add(first)
    first.hint = first.targets[1]
    assert [target.place[0] for target in first.order] == ["b", "a", "c"]
    renewed = entry_of("\\srv\\dfs\\LINK", "\\c\\x", "\\B\\x")
    renewed.fails_back = fails_back
    cache.add(renewed)
    assert [target.place[0] for target in renewed.order] == (["c", "B"] if fails_back else ["B", "c"])
    gone = entry_of("\\srv\\dfs\\link", "\\d\\x")
    cache.add(gone)
    assert [target.place[0] for target in gone.order] == ["d"]


# The way


def test_targets_come_one_after_the_other_with_the_rest_of_the_name() -> None:
    walk = Walk(place_of("\\srv\\dfs\\link\\folder"))
    start = walk.next()
    assert start is not None
    walk.refer(start, Match(entry_of("\\srv\\dfs\\link", "\\a\\x\\sub", "\\b\\y"), ("folder",)))
    first = walk.next()
    assert first is not None
    assert (first.server, first.share, first.prefix) == ("a", "x", "sub\\folder")
    assert first.name == first.place
    walk.fail(first, "it is off")
    second = walk.next()
    assert second is not None
    assert (second.server, second.share, second.prefix) == ("b", "y", "folder")
    assert walk.next() is None
    assert walk.problems == ["\\\\a\\x\\sub\\folder: it is off"]


def test_the_targets_of_a_root_are_asked_by_the_roots_name() -> None:
    walk = Walk(place_of("\\example.com\\dfs\\link"))
    start = walk.next()
    assert start is not None
    walk.refer(start, Match(entry_of("\\example.com\\dfs", "\\fs1\\dfs", is_root=True), ("link",)))
    place = walk.next()
    assert place is not None
    assert (place.place, place.name) == (("fs1", "dfs", "link"), ("example.com", "dfs", "link"))


def test_what_a_target_turns_out_to_be_comes_before_its_neighbours() -> None:
    walk = Walk(place_of("\\srv\\dfs\\link"))
    start = walk.next()
    assert start is not None
    walk.refer(start, Match(entry_of("\\srv\\dfs\\link", "\\ns\\dfs", "\\b\\x"), ()))
    namespace = walk.next()
    assert namespace is not None
    walk.refer(namespace, Match(entry_of("\\ns\\dfs", "\\c\\x"), ()))
    assert [place.server for place in (walk.next(), walk.next()) if place is not None] == ["c", "b"]
    assert walk.next() is None


def test_what_was_reached_is_where_the_next_walk_begins() -> None:
    link = entry_of("\\srv\\dfs\\link", "\\a\\x", "\\b\\x")
    walk = Walk(place_of("\\srv\\dfs\\link"))
    start = walk.next()
    assert start is not None
    walk.refer(start, Match(link, ()))
    walk.next()
    second = walk.next()
    assert second is not None
    second.settle()
    assert [target.place[0] for target in link.order] == ["b", "a"]
    assert second.way == [start, second]


def test_other_hosts_for_a_name_come_next_and_are_asked_by_it() -> None:
    walk = Walk(place_of("\\EXAMPLE\\dfs\\link"))
    start = walk.next()
    assert start is not None
    walk.rename(start, ["dc1.example.test", "dc2.example.test"])
    first, second = walk.next(), walk.next()
    assert first is not None
    assert second is not None
    assert [first.server, second.server] == ["dc1.example.test", "dc2.example.test"]
    assert second.place[1:] == ("dfs", "link")
    assert second.name == ("EXAMPLE", "dfs", "link")
    root = entry_of("\\EXAMPLE\\dfs", "\\EXAMPLE\\dfs", "\\fs\\dfs", is_root=True)
    walk.refer(second, Match(root, ("link",)))
    assert [place.server for place in (walk.next(), walk.next()) if place is not None] == ["fs"]


def test_a_place_that_was_no_use_is_not_tried_by_another_name() -> None:
    walk = Walk(place_of("\\srv\\dfs\\link"))
    start = walk.next()
    assert start is not None
    walk.refer(start, Match(entry_of("\\srv\\dfs\\link", "\\a\\x", "\\ns\\dfs"), ()))
    first = walk.next()
    assert first is not None
    walk.fail(first, "off")
    namespace = walk.next()
    assert namespace is not None
    walk.refer(namespace, Match(entry_of("\\ns\\dfs", "\\A\\X"), ()))
    assert walk.next() is None


@pytest.mark.parametrize("circle", [["\\srv\\dfs\\link"], ["\\SRV\\DFS\\other", "\\srv\\dfs\\LINK"]])
def test_links_in_a_circle_are_found(circle: list[str]) -> None:
    walk = Walk(place_of("\\srv\\dfs\\link"))
    for target in circle[:-1]:
        place = walk.next()
        assert place is not None
        walk.refer(place, Match(entry_of(join_name(place.name), target), ()))
    place = walk.next()
    assert place is not None
    with pytest.raises(RemoteProtocolError, match="leads back to itself"):
        walk.refer(place, Match(entry_of(join_name(place.name), circle[-1]), ()))


def test_links_that_lead_on_and_on_end() -> None:
    walk = Walk(place_of("\\srv\\dfs\\link"))
    for _ in range(MAX_HOPS):
        place = walk.next()
        assert place is not None
        walk.refer(place, Match(entry_of("\\srv\\dfs\\link", "\\srv\\dfs\\link\\link"), place.name[3:]))
    place = walk.next()
    assert place is not None
    with pytest.raises(RemoteProtocolError, match="leads from one namespace to the next more than 16 times"):
        walk.refer(place, Match(entry_of("\\srv\\dfs\\link", "\\srv\\dfs\\link\\link"), place.name[3:]))


def test_a_namespace_may_be_its_own_root_target() -> None:
    walk = Walk(place_of("\\srv\\dfs\\folder"))
    start = walk.next()
    assert start is not None
    walk.refer(start, Match(entry_of("\\srv\\dfs", "\\srv\\dfs", is_root=True), ("folder",)))
    place = walk.next()
    assert place is not None
    assert place.place == start.place
    assert place.entry is not None


def test_so_many_places_are_too_many() -> None:
    walk = Walk(place_of("\\srv\\dfs\\link"))
    start = walk.next()
    assert start is not None
    walk.refer(start, Match(entry_of("\\srv\\dfs\\link", *(f"\\a{n}\\x" for n in range(100))), ()))
    for _ in range(MAX_VISITS - 1):
        assert walk.next() is not None
    with pytest.raises(RemoteProtocolError, match="was looked for in 64 places in vain"):
        walk.next()


@given(st.lists(st.text(st.characters(exclude_characters="\\\0"), min_size=1, max_size=5), max_size=5))
def test_names_are_split_as_they_are_joined(parts: list[str]) -> None:
    assert split_name(join_name(tuple(parts))) == tuple(parts)
