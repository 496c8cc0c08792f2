"""Contract suites run over every method by existing."""

import pytest

from actscope.checks.check_task import check_task
from actscope.core import methods


@pytest.mark.parametrize("name", methods.names("tasks"))
def test_tasks(name: str):
    check_task(methods.find("tasks", name)())  # type: ignore[operator]
