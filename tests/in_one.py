"""Tables of small checks in one test: thousands of separate tests take longer to collect and report than to run."""

import functools
import inspect

import pytest
import torch


def in_one(names, cases):
    """Decorate a test to run all cases one after the other, each from the same random numbers, and to name failures.

    It takes the place of `pytest.mark.parametrize` for cases of milliseconds that share their fixtures.
    """
    names, cases = [name.strip() for name in names.split(",")], list(cases)
    assert cases, "a table without cases checks nothing"

    def decorate(test):
        @functools.wraps(test)
        def run(*args, **fixtures):
            wrong = []
            for case in cases:
                torch.manual_seed(0)
                values = (case,) if len(names) == 1 else case
                try:
                    test(*args, **dict(zip(names, values, strict=True)), **fixtures)
                except (Exception, pytest.fail.Exception) as error:
                    wrong.append(f"{case}: {type(error).__name__}: {error}")
            assert not wrong, f"{len(wrong)} of {len(cases)} cases fail:\n" + "\n".join(wrong)

        signature = inspect.signature(test)
        kept = [one for one in signature.parameters.values() if one.name not in names]
        run.__signature__ = signature.replace(parameters=kept)
        return run

    return decorate
