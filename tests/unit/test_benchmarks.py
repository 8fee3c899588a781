"""The benchmark's own arithmetic, and that its checks see what is wrong: no server, no mount."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmarks.peers import commands, picture, report
from tests.benchmarks.peers.driver import ACTIONS, MIB, SystemFiles
from tests.benchmarks.peers.peer import Conversation, Driver, OverdueError, PeerError
from tests.benchmarks.peers.results import Cell, Condition, Results
from tests.benchmarks.peers.targets import TARGETS, judge
from tests.benchmarks.peers.works import Material, Sizes, Step, Work, works
from tests.benchmarks.table import Table

FAST = Condition(0, "plain")
SLOW = Condition(10, "plain")


@pytest.fixture(scope="module")
def all_works(tmp_path_factory: pytest.TempPathFactory) -> list[Work]:
    return works(Material(tmp_path_factory.mktemp("material"), Sizes(2 * MIB, 30, 30, 20)))


def _results(*cells: tuple[Condition, str, str, float]) -> Results:
    """Results with one time in each of the given cells."""
    results = Results(
        kinds={
            "smbmount": "ours",
            "rclone": "mount",
            "smbnetfs": "mount",
            "smbclient": "program",
            "local": "local",
        },
        settings={"smbmount": "defaults"},
    )
    for condition, step, peer, seconds in cells:
        results.cell(condition, step, peer).times.append(seconds)
    return results


def _run(step: Step, root: Path) -> object:
    arguments = dict(step.arguments)
    if step.source_is_remote:
        arguments["source"] = f"{root}/{step.arguments['source']}"
    return ACTIONS[step.action](SystemFiles(), path=f"{root}/{step.path}".rstrip("/"), **arguments)[1]


# The works


def test_every_work_is_done_right_on_local_files(all_works: list[Work], tmp_path: Path) -> None:
    for number, work in enumerate(all_works):
        folder = tmp_path / str(number)
        folder.mkdir()
        work.prepare(folder)
        for step in work.steps:
            assert _run(step, folder) == step.proof, step.title
            assert step.check(folder) == "", step.title


def test_every_step_that_was_not_done_is_found_out(all_works: list[Work], tmp_path: Path) -> None:
    """By its proof, which nothing else can give, or by the state of the folder."""
    for number, work in enumerate(all_works):
        folder = tmp_path / str(number)
        folder.mkdir()
        work.prepare(folder)
        for step in work.steps:
            assert step.proof is not None or _is_refused(step, folder), step.title


def _is_refused(step: Step, folder: Path) -> bool:
    try:
        return step.check(folder) != ""
    except FileNotFoundError:
        return True


def test_wrong_content_is_found_out(all_works: list[Work], tmp_path: Path) -> None:
    created = next(work for work in all_works if work.name == "create").steps[0]
    _run(created, tmp_path)
    assert created.check(tmp_path) == ""
    (tmp_path / "file-00003.txt").write_bytes(b"short")
    assert created.check(tmp_path) == "30 of 30 files on the server, 1 wrong"


def test_every_target_names_a_step(all_works: list[Work]) -> None:
    titles = {step.title for work in all_works for step in work.steps}
    assert {target.step for target in TARGETS} <= titles


# Processes


def test_driver_answers_and_tells_its_errors(tmp_path: Path) -> None:
    driver = Driver("os", {}, 30.0)
    try:
        (tmp_path / "file").touch()
        assert driver.run(Step("", "list_long", ""), str(tmp_path), 30.0).proof == 1
        with pytest.raises(PeerError, match="FileNotFoundError"):
            driver.run(Step("", "rmtree", "absent"), str(tmp_path), 30.0)
        assert not driver.is_busy
    finally:
        driver.stop()


def test_program_that_does_not_answer_is_overdue_and_ended() -> None:
    conversation = Conversation([sys.executable, "-c", "import time; time.sleep(1000)"], {})
    start = time.monotonic()
    with pytest.raises(OverdueError, match=r"longer than 0\.2 s"):
        conversation.hear(b"\n", 0.2)
    conversation.stop()
    assert time.monotonic() - start < 10


def test_program_that_ends_is_told_by_its_last_words() -> None:
    conversation = Conversation([sys.executable, "-c", "print('one\\nno such server')"], {})
    try:
        with pytest.raises(PeerError, match="the program ended: no such server"):
            conversation.hear(b"never said", 30.0)
    finally:
        conversation.stop()


def test_answers_are_cut_at_their_ends() -> None:
    source = "import sys; sys.stdout.write('a' * 200_000 + 'END' + 'second END')"
    conversation = Conversation([sys.executable, "-c", source], {})
    try:
        assert conversation.hear(b"END", 30.0) == "a" * 200_000
        assert conversation.hear(b"END", 30.0) == "second "
    finally:
        conversation.stop()


def test_listing_of_smbclient_becomes_copies() -> None:
    listing = (
        "  .                                   D        0  Mon Nov 23 05:35:25 2026\n"
        "  folder-000                          D        0  Mon Nov 23 05:35:25 2026\n"
        "\n\\work\\source\\folder-000\n"
        "  file-00000.txt                      N     4096  Mon Nov  3 05:35:25 2026\n"
    )
    assert commands.copy_commands(listing, "work/source", "work/copy") == [
        "mkdir work/copy",
        "mkdir work/copy/folder-000",
        "scopy work/source/folder-000/file-00000.txt work/copy/folder-000/file-00000.txt",
    ]


# Results and targets


def test_median_counts_and_a_failure_counts_for_all() -> None:
    assert Cell([3.0, 1.0, 2.0]).seconds == 2.0
    assert Cell([3.0], failure="wrong result").seconds is None
    assert Cell().seconds is None


def test_results_survive_their_file(tmp_path: Path) -> None:
    results = _results((FAST, "copytree", "smbmount", 1.0), (SLOW, "copytree", "rclone", 2.0))
    results.cell(FAST, "copytree", "smbmount").round_trips.append(7)
    results.cell(FAST, "copytree", "smbclient").failure = "longer than 120 s"
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results
    assert json.loads((tmp_path / "results.json").read_text())["cells"][0]["step"] == "copytree"


@pytest.mark.parametrize(("theirs", "verdict"), [(3.0, "kept"), (2.99, "BROKEN")])
def test_ratio_is_the_rivals_time_by_ours(theirs: float, verdict: str) -> None:
    found = list(
        judge(_results((FAST, "copytree", "smbmount", 1.0), (FAST, "copytree", "smbclient", theirs)))
    )
    assert [(one.rival, one.ratio, one.verdict) for one in found] == [("smbclient", theirs, verdict)]


def test_best_rival_is_the_quickest_that_is_not_local() -> None:
    step = "small files created"
    times = (("smbmount", 1.0), ("rclone", 9.0), ("smbclient", 4.0), ("local", 0.1))
    (found,) = judge(_results(*((FAST, step, peer, seconds) for peer, seconds in times)))
    assert (found.rival, found.ratio, found.verdict) == ("smbclient", 4.0, "kept")


def test_best_mount_is_no_program() -> None:
    times = (("smbmount", 1.0), ("rclone", 9.0), ("smbnetfs", 6.0), ("smbclient", 0.5))
    (found,) = judge(_results(*((SLOW, "ls -l cold", peer, seconds) for peer, seconds in times)))
    assert (found.rival, found.ratio, found.verdict) == ("smbnetfs", 6.0, "kept")


def test_rival_depends_on_the_delay() -> None:
    step = "stat of cold names"
    times = (("smbmount", 1.0), ("rclone", 4.0), ("smbnetfs", 15.0))
    cells = ((condition, step, peer, seconds) for condition in (FAST, SLOW) for peer, seconds in times)
    assert [(one.rival, one.wanted, one.verdict) for one in judge(_results(*cells))] == [
        ("rclone", 3.0, "kept"),
        ("smbnetfs", 20.0, "BROKEN"),
    ]


def test_own_failure_is_broken_and_absent_rivals_are_no_merit() -> None:
    results = _results((FAST, "copytree", "smbclient", 1.0), (FAST, "write + fsync", "smbmount", 1.0))
    results.cell(FAST, "copytree", "smbmount").failure = "wrong result"
    verdicts = {one.step: one.verdict for one in judge(results)}
    assert verdicts == {"copytree": "BROKEN", "write + fsync": "no rival"}


def test_conditions_without_a_promise_are_not_judged() -> None:
    cells = [
        (condition, "sequential read cold", peer, 1.0)
        for condition in (Condition(50, "plain"), Condition(0, "signed"))
        for peer in ("smbmount", "smbclient")
    ]
    assert list(judge(_results(*cells))) == []


# What is shown


@pytest.fixture
def shown() -> Results:
    results = _results(
        (FAST, "copytree", "smbmount", 0.5),
        (FAST, "copytree", "rclone", 2.0),
        (FAST, "copytree", "smbclient", 0.05),
        (SLOW, "copytree", "smbmount", 0.5),
    )
    results.cell(FAST, "copytree", "smbmount").round_trips.extend([12, 11])
    results.cell(FAST, "copytree", "smbnetfs").failure = "wrong result: the <tree> differs"
    results.cell(SLOW, "copytree", "smbclient").failure = "no such command"
    results.cell(SLOW, "copytree", "smbclient").unsupported = True
    return results


def test_text_shows_times_ratios_failures_and_verdicts(shown: Results) -> None:
    lines = report.text(shown).splitlines()
    copytree = " ".join(lines[2].split())
    assert copytree == "copytree 0.500 s 2.00 s (4.00 ×) failed 0.0500 s (0.100 ×) 11"
    assert "failed: 0 ms, plain, copytree, smbnetfs: wrong result: the <tree> differs" in lines
    assert not any("no such command" in line for line in lines)
    assert " ".join(lines[-2].split()) == "copytree 0 ms, plain ≥ 3 × smbclient 0.10 × BROKEN"
    assert " ".join(lines[-1].split()) == "copytree 10 ms, plain ≥ 3 × no rival"


def test_markdown_is_made_of_whole_tables(shown: Results) -> None:
    text = report.markdown(shown)
    assert "| copytree | 0.500 s | 2.00 s (4.00 ×) | failed | 0.0500 s (0.100 ×) |  | 11 |" in text
    for table in text.split("\n\n"):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1


def test_picture_is_svg_with_a_bar_for_each_result(shown: Results) -> None:
    root = ElementTree.fromstring(picture.svg(shown))
    space = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in root.iter(f"{space}text")]
    assert "4 ×" in texts
    assert "0.1 ×" in texts
    # The background; in each panel a key for three peers; two bars.
    assert len(list(root.iter(f"{space}rect"))) == 1 + 2 * 3 + 2


def test_scale_is_logarithmic_and_bounded() -> None:
    left, one, ten, right = (picture.position(ratio, 100.0) for ratio in (0.1, 1.0, 10.0, 100.0))
    assert one - left == pytest.approx(ten - one)
    assert ten - one == pytest.approx(right - ten)
    assert picture.position(0.0001, 100.0) == left
    assert picture.position(1e6, 100.0) == right


# Scale


@pytest.mark.parametrize(("costs", "code"), [([10, 8, 8.5], 0), ([10, 9, 20], 1), ([0.01, 0.1], 0), ([5], 0)])
def test_costs_that_grow_are_found_out(
    costs: list[float], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table()
    table.growth("work", costs, "µs", 1.5, 0.1)
    assert table.print() == code
    assert ("BROKEN" in capsys.readouterr().out) == bool(code)


def test_too_much_memory_is_found_out() -> None:
    table = Table()
    table.mebibytes("idle", 64.0, 64)
    assert table.print() == 0
    table.mebibytes("idle", 64.5, 64)
    assert table.print() == 1
