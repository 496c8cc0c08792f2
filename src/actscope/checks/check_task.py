"""What every task must do. One behaviour a function; `check_task` runs them all."""

from actscope.core.task import Task

__all__ = ["check_task"]


def check_task(task: Task, *, n: int = 60) -> None:
    """Run every check on one task. Raises AssertionError, naming the behaviour and the example."""
    for check in (_names, _repeatable, _disjoint, _answers, _twins):
        check(task, n)


def _names(task: Task, n: int) -> None:
    assert task.name and task.source, "a task says its name and where its prompts come from"
    assert task.metric in ("exact", "mass"), f"metric {task.metric!r}; expected 'exact' or 'mass'"


def _repeatable(task: Task, n: int) -> None:
    first = task.examples(n, seed=3, split="test")
    assert len(first) == n, f"{len(first)} examples given, {n} asked for"
    assert first == task.examples(n, seed=3, split="test"), "the same seed gives other examples"
    assert first != task.examples(n, seed=4, split="test"), "another seed gives the same examples"


def _disjoint(task: Task, n: int) -> None:
    train = {example.prompt for example in task.examples(5 * n, seed=0, split="train")}
    shared = train & {example.prompt for example in task.examples(5 * n, seed=1, split="test")}
    assert not shared, f"train and test share {len(shared)} prompts, such as {sorted(shared)[0]!r}"


def _answers(task: Task, n: int) -> None:
    for example in task.examples(n, seed=5, split="test"):
        assert example.prompt and example.answers, f"{example!r} asks or answers nothing"
        assert all(example.answers), f"an empty answer to {example.prompt!r}"
        assert not set(example.answers) & set(example.wrong), f"right and wrong overlap in {example!r}"
        assert task.metric != "mass" or example.wrong, f"metric 'mass' needs wrong answers: {example!r}"


def _twins(task: Task, n: int) -> None:
    for example in task.examples(n, seed=6, split="test"):
        assert example.corrupted != example.prompt, f"the twin of {example.prompt!r} is itself"
