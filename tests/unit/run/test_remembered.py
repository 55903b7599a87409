from __future__ import annotations

from servicex_server.run.remembered import Remembered


def test_what_was_put_for_an_object_is_not_there_for_its_equals() -> None:
    remembered: Remembered[list[int], str] = Remembered(2)
    key, equal = [1], [1]

    assert remembered.put(key, "known") == "known"

    assert remembered.get(key) == "known"
    assert remembered.get(equal) is None


def test_the_key_that_was_used_longest_ago_is_forgotten() -> None:
    remembered: Remembered[object, int] = Remembered(2)
    first, second, third = object(), object(), object()
    remembered.put(first, 1)
    remembered.put(second, 2)
    remembered.get(first)

    remembered.put(third, 3)

    assert [remembered.get(key) for key in (first, second, third)] == [1, None, 3]


def test_a_key_lives_as_long_as_its_value() -> None:
    remembered: Remembered[object, int] = Remembered(1000)
    for number in range(1000):
        remembered.put(object(), number)

    # None of these has the address of one that was thrown away.
    assert all(remembered.get(object()) is None for _ in range(100))
