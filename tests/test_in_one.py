"""A table of checks in one test names each case that fails."""

import pytest

from tests.in_one import in_one


def test_each_case_runs_and_failures_are_named():
    seen = []

    @in_one("a, b", [(1, 1), (2, 3), (4, 4), (5, 6)])
    def equal(a, b):
        seen.append(a)
        assert a == b

    with pytest.raises(AssertionError, match=r"2 of 4 cases fail:\n\(2, 3\): .*\n.*\(5, 6\): ") as found:
        equal()
    assert seen == [1, 2, 4, 5] and "(1, 1)" not in str(found.value)


def test_a_check_that_nothing_raises_fails_in_it_too():
    @in_one("value", [0])
    def refused(value):
        with pytest.raises(ValueError):
            abs(value)

    with pytest.raises(AssertionError, match="DID NOT RAISE"):
        refused()


@in_one("value", [1, 2])
def test_fixtures_are_shared(value, tmp_path):
    assert tmp_path.exists() and value in (1, 2)
