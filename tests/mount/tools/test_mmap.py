"""Memory-mapped files: written by mapping, read by mapping, on both sides."""

from __future__ import annotations

import mmap
from typing import Final

from tests.support.tools import Place, digest, noise, python, python_child

_WRITER: Final = """
import mmap, os
with open("mapped", "r+b") as file:
    size = os.fstat(file.fileno()).st_size
    with mmap.mmap(file.fileno(), size) as view:
        for at in range(0, size - 8, 10_007):
            view[at : at + 8] = b"written!"
        view.flush()
print("synced")
"""


def test_a_shared_mapping_reaches_the_server(place: Place, elsewhere: Place) -> None:
    size = 3_000_001
    content = bytearray(noise(size, "mapped"))
    (place.path / "mapped").write_bytes(content)
    assert python(_WRITER, cwd=place.path) == "synced\n"
    for at in range(0, size - 8, 10_007):
        content[at : at + 8] = b"written!"
    assert (place.server_path / "mapped").read_bytes() == content
    assert (elsewhere.path / "mapped").read_bytes() == content
    assert (place.path / "mapped").read_bytes() == content


def test_msync_is_enough_while_the_mapping_lives(place: Place) -> None:
    (place.path / "f").write_bytes(bytes(100_000))
    child = python_child(
        """
import mmap, os, sys
fd = os.open("f", os.O_RDWR)
view = mmap.mmap(fd, 0)
os.close(fd)
for line in sys.stdin:
    view[50_000:50_005] = line.strip().encode()
    view.flush()
    print("synced")
""",
        cwd=place.path,
    )
    with child:
        for word in ("first", "other"):
            child.say(word)
            assert child.hear() == "synced"
            assert (place.path / "f").read_bytes()[50_000:50_005] == word.encode()
            assert (place.server_path / "f").read_bytes()[50_000:50_005] == word.encode()
        child.finish()


def test_a_private_mapping_and_one_of_a_deleted_file(place: Place) -> None:
    (place.path / "f").write_bytes(noise(500_000, "f"))
    with (place.path / "f").open("rb") as file:
        private = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        shared = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with private, shared:
        private[:4] = b"mine"
        (place.path / "f").unlink()
        assert shared[:] == noise(500_000, "f")
        assert private[:4] == b"mine"


def test_ftruncate_then_map_then_grow(place: Place) -> None:
    source = """
import mmap, os
with open("db", "w+b") as file:
    for size in (4096, 65536, 1_000_000):
        os.ftruncate(file.fileno(), size)
        with mmap.mmap(file.fileno(), size) as view:
            assert view[size - 1] == 0
            view[size - 1] = 7
            assert file.seek(0, 2) == size
with open("db", "rb") as file:
    content = file.read()
assert [at for at, byte in enumerate(content) if byte] == [4095, 65535, 999_999]
"""
    python(source, cwd=place.path)
    assert digest(place.path / "db") == digest(place.server_path / "db")
