"""What every subject must do. One behaviour a function; `check_subject` runs them all."""

from dataclasses import replace

from torch import Tensor

from actscope.checks._parts.subject_running import RUNNING
from actscope.core.inputs import Inputs
from actscope.core.subject import Subject
from actscope.subjects._proof.case import make_case, staged
from actscope.subjects._proof.experts import EXPERTS
from actscope.subjects._proof.reading import READING

__all__ = ["check_subject"]

CHECKS = {check.__name__: check for check in (*RUNNING, *READING, *EXPERTS)}


def check_subject(subject: Subject, *, ids: Tensor | Inputs | None = None, only: str | None = None, seed: int = 0) -> None:
    """Run every check on one subject. Raises AssertionError, naming the behaviour and the site.

    ids: Int[b t] with b >= 3 and t >= 8, or Inputs; random ones by default. only: the name of one check. Comparisons with the
    untouched model need `subject.model`, the torch module inside; the checks of kinds of sites that the subject lacks say
    nothing.
    """
    case = make_case(subject, ids, seed)
    for name, check in CHECKS.items():
        if only in (None, name):
            for one in staged(case) if check not in RUNNING else staged(case)[:1]:
                check(replace(one, check=name))
