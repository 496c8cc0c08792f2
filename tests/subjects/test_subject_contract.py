"""The public contract suite on random GPT-NeoX models of odd sizes, with and without parallel residual, and on pocket."""

import pytest

from actscope.checks.check_subject import CHECKS, check_subject


@pytest.mark.parametrize("check", CHECKS)
def test_contract(subject, check: str):
    check_subject(subject, only=check)
