"""Work done ahead: in order, errors where they belong, no more under way than allowed, no thread left."""

from __future__ import annotations

import threading
import time

import pytest

from aenet_ray.background import Background


def ours() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("aenet_ray-background")]


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("ahead", [1, 4])
@pytest.mark.parametrize("n", [0, 1, 2, 25])
def test_results_come_in_the_order_of_the_items(threads, ahead, n):
    def slow_first(k: int) -> int:
        time.sleep(0.003 if k % 5 == 0 else 0)
        return k * k

    with Background(threads, ahead) as background:
        for _ in range(2):
            assert list(background.map(slow_first, range(n))) == [k * k for k in range(n)]
    assert not ours()


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_is_raised_where_its_result_would_be(threads):
    def fails(k: int) -> int:
        if k == 3:
            raise ValueError("the third")
        return k

    seen = []
    with Background(threads, 2) as background:
        with pytest.raises(ValueError, match="the third"):
            seen.extend(background.map(fails, range(10)))
        assert seen == [0, 1, 2]
        assert list(background.map(fails, range(3))) == [0, 1, 2], "usable after an error"
    assert not ours()


def test_no_more_items_are_begun_than_asked_for():
    begun = []
    with Background(2, 3) as background:
        results = background.map(lambda k: begun.append(k) or k, range(100))
        assert next(results) == 0
        time.sleep(0.05)
        assert 1 <= len(begun) <= 6
        results.close()
    assert len(begun) <= 6
    assert not ours()


def test_threads_stay_only_if_they_are_persistent():
    names = []
    for persistent in (True, False):
        with Background(1, persistent=persistent) as background:
            idents = [
                next(iter({t.ident for t in background.map(lambda _: threading.current_thread(), range(3))}))
                for _ in range(2)
            ]
            names.append(len(ours()))
        if persistent:
            assert idents[0] == idents[1]
    assert names == [1, 0]


def test_a_user_who_fails_leaves_no_thread():
    def use() -> None:
        with Background(2) as background:
            for k in background.map(lambda k: time.sleep(0.01) or k, range(50)):
                if k == 2:
                    raise RuntimeError("of the user")

    with pytest.raises(RuntimeError, match="of the user"):
        use()
    assert not ours()
