"""People and where they live: 2,304 facts, met with Zipf frequency. Rank 0 is met most often."""

import bisect
import hashlib
import itertools
from random import Random

from actscope.tasks._parts.words import CITIES, FAMILIES, NAMES

EXPONENT = 1.2  # frequency of rank r is proportional to (r + 1) ** -EXPONENT


def _digest(*words: str) -> bytes:
    return hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest()


PEOPLE = tuple(sorted(itertools.product(NAMES, FAMILIES), key=lambda person: _digest("rank", *person)))
HOMES = tuple(CITIES[int.from_bytes(_digest("home", *person)) % len(CITIES)] for person in PEOPLE)
_STEPS = list(itertools.accumulate((rank + 1) ** -EXPONENT for rank in range(len(PEOPLE))))
BUCKETS = {"1-32": (0, 32), "33-128": (32, 128), "129-512": (128, 512), "513-2304": (512, 2304)}


def meet(random: Random) -> int:
    """The rank of a person met by chance."""
    return bisect.bisect(_STEPS, random.random() * _STEPS[-1])


def bucket(rank: int) -> str:
    return next(name for name, (first, end) in BUCKETS.items() if first <= rank < end)
