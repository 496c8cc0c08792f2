"""The learning rate over a run."""

from actscope.training.plan import Plan


def rate(plan: Plan, highest: float, step: int, steps: int) -> float:
    """The rate of step `step` (from 0) of `steps`: a linear rise, a plateau, a linear fall towards 0."""
    rising = plan.warmup * steps
    falling = plan.decay * steps
    up = (step + 1) / rising if step + 1 < rising else 1.0
    down = (steps - step) / falling if steps - step < falling else 1.0
    return highest * min(up, down)
