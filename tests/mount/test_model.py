"""The model test in short: random operations through mounts, beside a local folder that has to stay equal.

`python -m tests.model` plays more of them, and shrinks what fails.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.bench import Bench
from tests.model.generator import Generator
from tests.model.operations import Operation
from tests.support.samba import SambaServer

pytestmark = pytest.mark.deadline(180)


@pytest.mark.parametrize(
    ("seed", "options"),
    [(1, ()), (2, ("actimeo=0",)), (3, ("cache=none",)), (4, ("vers=2.0", "noserverino"))],
)
def test_a_mount_is_like_a_local_folder(
    samba: SambaServer, tmp_path: Path, seed: int, options: tuple[str, ...]
) -> None:
    operations = Generator(seed).operations(200)
    assert Bench(samba, tmp_path).play(operations, options) is None


@pytest.mark.parametrize(("seed", "options"), [(1, ("actimeo=0",)), (2, ("actimeo=0", "closetimeo=0"))])
def test_two_mounts_are_like_one_local_folder(
    samba: SambaServer, tmp_path: Path, seed: int, options: tuple[str, ...]
) -> None:
    operations = Generator(seed, clients=2).operations(200)
    assert Bench(samba, tmp_path, clients=2).play(operations, options) is None


def test_what_differs_is_found_and_told(samba: SambaServer, tmp_path: Path) -> None:
    """Samba lists the names of DOS devices under short ones of its own."""
    operations = [
        Operation("mkdir", ("d",)),
        Operation("write_file", ("d/aux", 1, 10)),
        Operation("listdir", ("d",)),
    ]
    told = Bench(samba, tmp_path).play(operations, ())
    assert told is not None
    assert told.startswith("operation 2, client 0: listdir('d'): [('A")
    assert told.endswith("'file')] instead of [('aux', 'file')]")
