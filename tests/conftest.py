"""What all tests share: the quick switch, a hard deadline, no undeclared warnings, throw-away servers."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import hypothesis
import pytest

from tests.support.domain import Domain
from tests.support.domain_tree import DomainTree, grown
from tests.support.factories import SambaFactory
from tests.support.logcheck import ExpectedWarnings, collected_warnings
from tests.support.samba import SambaServer
from tests.support.samba_backports import BackportsSambaServer
from tests.support.watchdog import DEFAULT_SECONDS, hard_deadline

_SLOW_FOLDERS: Final = ("integration", "mount", "benchmarks")
_REPORT_FD: Final = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="only what needs no server and no mount (tests/unit, tests/fuzz), and is not marked as slow",
    )


# CI judges the change, so its examples are the same each time; new ones are searched for at every desk.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "deadline(seconds): this test may take so long before it is killed")
    config.addinivalue_line(
        "markers", "expected_warnings(*patterns): log records that this test has to bring about"
    )
    config.addinivalue_line("markers", "slow: not for --quick, though it needs no server and no mount")
    config.stash[_REPORT_FD] = os.dup(2)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # In the background of a shell it is ignored, and so it would be in what tests start and interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_REPORT_FD])


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    quick: bool = config.getoption("--quick")
    here = Path(__file__).parent
    return True if quick and collection_path in [here / name for name in _SLOW_FOLDERS] else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    marker = item.get_closest_marker("deadline")
    seconds = float(marker.args[0]) if marker else DEFAULT_SECONDS
    with hard_deadline(seconds, item.nodeid, item.config.stash[_REPORT_FD]):
        return (yield)


@pytest.fixture(autouse=True)
def expected_warnings(request: pytest.FixtureRequest) -> Iterator[ExpectedWarnings]:
    """Fails the test for warnings of our loggers that neither this fixture nor the marker announced."""
    with collected_warnings() as expected:
        for marker in request.node.iter_markers("expected_warnings"):
            expected.require(*marker.args)
        yield expected
    if complaints := expected.complaints():
        pytest.fail("\n".join(complaints), pytrace=False)


@pytest.fixture(scope="session")
def samba() -> Iterator[SambaServer]:
    """The default server: one share "data" that its user may read and write. Do not restart it."""
    yield from _well_behaved(SambaServer())


@pytest.fixture
def samba_factory() -> Iterator[SambaFactory]:
    """Starts servers of the test's own, which it may stop, restart and freeze as it likes."""
    with ExitStack() as stack:
        yield SambaFactory(stack)


@pytest.fixture
def share_path(samba: SambaServer) -> Path:
    """A new folder inside the default server's share "data", owned by the server's user."""
    return _new_folder(samba)


@pytest.fixture(scope="session")
def _backports() -> None:
    """Skips what needs the newer Samba where nobody can run it; where somebody can, it has to be there."""
    if os.geteuid() != 0:
        pytest.skip("only root can run the newer Samba, which has a root folder of its own")


@pytest.fixture(scope="session")
def samba_backports(_backports: None) -> Iterator[SambaServer]:
    """A server like `samba`, of a newer version that grants leases of directories. Do not restart it."""
    yield from _well_behaved(BackportsSambaServer())


@pytest.fixture
def samba_backports_factory(_backports: None) -> Iterator[SambaFactory]:
    """Like `samba_factory`, of the newer version."""
    with ExitStack() as stack:
        yield SambaFactory(stack, BackportsSambaServer)


@pytest.fixture
def backports_share_path(samba_backports: SambaServer) -> Path:
    """A new folder inside the share "data" of the newer server, owned by the server's user."""
    return _new_folder(samba_backports)


@pytest.fixture(scope="session")
def domain() -> Iterator[Domain]:
    """An Active Directory domain whose controller has a share "data". Who changes it puts it right again."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a domain controller, whose ports are all below 1024")
    with Domain() as domain:
        yield domain
        assert "PANIC" not in domain.log_text(), domain.log_text()


@pytest.fixture(scope="session")
def _domain_tree(domain: Domain) -> Iterator[DomainTree]:
    if not domain.can_be_joined:
        pytest.skip(
            "a server, the machine's own Samba perhaps, has port 445 on all addresses: members need it"
        )
    with grown(domain) as tree:
        yield tree
        for member in (tree.first, tree.second):
            assert "PANIC" not in member.log_text(), member.log_text()


@pytest.fixture
def domain_tree(_domain_tree: DomainTree) -> Iterator[DomainTree]:
    """A distributed tree in that domain, over two members of it, all running again afterwards."""
    yield _domain_tree
    _domain_tree.resume()


def _well_behaved(server: SambaServer) -> Iterator[SambaServer]:
    with server:
        yield server
        assert "PANIC" not in server.log_text(), server.log_text()


def _new_folder(server: SambaServer) -> Path:
    path = server.share_path() / uuid.uuid4().hex[:12]
    path.mkdir()
    server.adopt(path)
    return path
