"""The parts of the model test: what is drawn, shrunk, and taken for equal."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.model.differences import Situation, differs, known_refusal, same_time, trees_differ
from tests.model.generator import Generator
from tests.model.operations import Operation, from_json
from tests.model.sharing import Sharing
from tests.model.shrink import script, shrunk
from tests.model.world import Outcome, World


def test_a_seed_always_gives_the_same_operations() -> None:
    first, again, other = (Generator(seed, clients=2).operations(300) for seed in (7, 7, 8))
    assert first == again != other
    assert {operation.client for operation in first} == {0, 1}
    assert [from_json(json.loads(json.dumps(operation.as_json()))) for operation in first] == first


def test_what_is_left_of_a_failing_list_is_what_fails() -> None:
    kept = shrunk(range(500), lambda rest: {17, 300, 301} <= set(rest))
    assert kept == [17, 300, 301]


def test_a_script_names_flags_and_modes() -> None:
    operation = Operation("open", (3, "a", os.O_RDWR | os.O_CREAT | os.O_SYNC, 0o644), client=1)
    assert script([operation], [12]) == "  12  client 1: open(3, 'a', O_RDWR|O_CREAT|O_SYNC, 0o644)"


def test_times_that_programs_set_are_equal_to_100_ns_and_those_of_the_clock_roughly() -> None:
    now = time.time_ns()
    assert same_time(1_000_000_100, 1_000_000_199)
    assert not same_time(1_000_000_200, 1_000_000_199)
    assert same_time(now - 3_000_000_000, now)
    assert not same_time(1_000_000_000, now)


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    # Worlds work in the working directory, which has to be the old one afterwards.
    monkeypatch.chdir(tmp_path)
    return World([tmp_path, tmp_path])


def test_a_folder_that_holds_an_open_file_without_a_name_may_stay(local: World) -> None:
    situation, refused = Situation(local, ()), Outcome(error="ENOTEMPTY")
    removal = Operation("unlink", ("d/a",))
    for operation in (
        Operation("mkdir", ("d",)),
        Operation("open", (1, "d/a", os.O_RDWR | os.O_CREAT, 0o644)),
    ):
        assert not local.do(operation).error
    assert known_refusal(situation, Operation("rmdir", ("d",)), refused) is None
    situation.before(removal)
    local.do(removal)
    situation.after()
    assert known_refusal(situation, Operation("rmdir", ("d",)), refused) is not None
    local.do(Operation("close", (1,)))
    situation.after()
    assert known_refusal(situation, Operation("rmdir", ("d",)), refused) is None


def test_other_refusals_and_other_data_are_differences(local: World) -> None:
    situation = Situation(local, ())
    assert known_refusal(situation, Operation("mkdir", ("d",)), Outcome(error="EACCES")) is None
    assert differs(Outcome(error="EIO"), Outcome(5), situation) == "EIO instead of 5"
    assert differs(Outcome(b"abd"), Outcome(b"abc"), situation) is not None
    assert differs(Outcome(b"abc"), Outcome(b"abc"), situation) is None


def test_what_is_seen_of_a_file_is_compared(local: World) -> None:
    situation = Situation(local, ())
    local.do(Operation("write_file", ("a", 1, 10)))
    there = local.do(Operation("stat", ("a",)))
    assert differs(Outcome(there.value._replace(size=11)), there, situation) == "size 11 instead of 10"
    assert differs(Outcome(there.value._replace(write_ns=100)), there, situation) is not None


def test_trees_are_compared_by_names_kinds_and_contents() -> None:
    tree = {"./a": ("file", b"abc", True, 100, ())}
    assert trees_differ(tree, tree, "here") is None
    assert trees_differ({}, tree, "here") == "here: [] should not be there, ['./a'] are missing"
    assert trees_differ({"./a": ("link", "b")}, tree, "here") == "here: ./a is a link, not a file"
    changed = {"./a": ("file", b"abd", True, 100, ())}
    told = trees_differ(changed, tree, "here")
    assert told == "here: ./a: content: 3 bytes instead of 3, equal up to 2 and from 3 on, 64 instead of 63"


def test_with_two_clients_only_what_is_decided_is_played(local: World) -> None:
    sharing = Sharing(local, keeps_files=False)

    def play(operation: Operation) -> None:
        sharing.about_to(operation)
        local.do(operation)
        sharing.done(operation)

    play(Operation("open", (1, "a", os.O_RDWR | os.O_CREAT, 0o644)))
    read, change = Operation("read_file", ("a",), 1), Operation("write_file", ("a", 1, 5), 1)
    assert not sharing.is_undecided(read)
    assert sharing.is_undecided(change)
    assert sharing.is_undecided(Operation("rename", ("b", "a"), 1))
    assert not sharing.is_undecided(Operation("rename", ("a", "b"), 1))
    play(Operation("write", (1, 1, 10)))
    assert sharing.is_undecided(read)
    play(Operation("fsync", (1,)))
    assert not sharing.is_undecided(read)
    play(Operation("write", (1, 1, 10)))
    play(Operation("close", (1,)))
    assert not any(sharing.is_undecided(operation) for operation in (read, change))
