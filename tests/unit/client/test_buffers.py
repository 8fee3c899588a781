"""Receive buffers that come back by themselves."""

from __future__ import annotations

from engine.client.buffers import POOLED_FROM, BufferPool

LARGE = 300_000
MIB = 1 << 20


def marked(view: memoryview) -> bool:
    """Whether `view` begins with what a test wrote there: fresh memory holds zeros."""
    return bytes(view[:4]) == b"mark"


def test_a_buffer_without_views_is_used_again_and_again() -> None:
    pool = BufferPool()
    view = pool.allocate(LARGE)
    view[:4] = b"mark"
    for _ in range(5):
        del view
        view = pool.allocate(LARGE)
        assert marked(view)


def test_a_view_keeps_its_buffer_out_of_the_pool() -> None:
    pool = BufferPool()
    view = pool.allocate(LARGE)
    view[:4] = b"mark"
    part = view[:100][:4]
    del view
    other = pool.allocate(LARGE)
    assert not marked(other)
    other[:] = b"\xff" * len(other)
    assert marked(part)
    del part
    assert marked(pool.allocate(LARGE))


def test_a_released_view_gives_its_buffer_back() -> None:
    pool = BufferPool()
    view = pool.allocate(LARGE)
    view[:4] = b"mark"
    view.release()
    assert marked(pool.allocate(LARGE))


def test_unused_buffers_are_released_and_used_ones_are_kept() -> None:
    pool = BufferPool()
    used, unused = pool.allocate(LARGE), pool.allocate(LARGE)
    used[:4] = unused[:4] = b"mark"
    del unused
    pool.release()
    assert not marked(pool.allocate(LARGE)), "the unused one is gone"
    assert marked(used)
    pool.release()
    del used
    assert marked(pool.allocate(LARGE)), "the used one has come back"


def test_nearly_the_same_size_shares_buffers() -> None:
    pool = BufferPool()
    pool.allocate(LARGE)[:4] = b"mark"
    view = pool.allocate(LARGE + 5000)
    assert marked(view)
    assert len(view) >= LARGE + 5000


def test_small_buffers_are_not_pooled() -> None:
    pool = BufferPool()
    view = pool.allocate(POOLED_FROM - 1)
    assert len(view) == POOLED_FROM - 1
    view[:4] = b"mark"
    del view
    assert not marked(pool.allocate(POOLED_FROM - 1))


def test_no_more_is_kept_than_the_limit() -> None:
    pool = BufferPool(limit=MIB)
    views = [pool.allocate(MIB // 2) for _ in range(4)]
    for view in views:
        view[:4] = b"mark"
    del view
    views.clear()
    again = [pool.allocate(MIB // 2) for _ in range(4)]
    assert sum(map(marked, again)) == 2


def test_unused_buffers_of_another_size_make_room() -> None:
    pool = BufferPool(limit=MIB)
    used = pool.allocate(LARGE)
    used[:4] = b"mark"
    pool.allocate(MIB // 2 - 1)
    pool.allocate(LARGE * 2)[:4] = b"mark"
    assert not marked(pool.allocate(LARGE * 2)), "the one in use left too little room to keep it"
    del used
    pool.allocate(LARGE * 2)[:4] = b"mark"
    assert marked(pool.allocate(LARGE * 2))
