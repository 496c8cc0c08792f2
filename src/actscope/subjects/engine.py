"""Generate: several rows at once, from a cache, with sites read and written while decoding.

Letters: p tokens of a row's prompt, g tokens generated, d width of a site.
"""

import codecs
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.errors import BadInput, Interrupted, NotFinite
from actscope.core.inputs import Inputs
from actscope.core.intervention import Intervention, flatten
from actscope.core.progress import stop_requested
from actscope.core.site import Site, resolve
from actscope.core.subject import Subject
from actscope.subjects._decode import Asked, Cached, Decoding, Rerun, Where
from actscope.subjects._pieces import MAPS
from actscope.subjects._prompts import prompts as laid
from actscope.subjects._sampling import Sampling, Streams

__all__ = ["Generated", "Stream", "Token", "generate"]


@dataclass(frozen=True)
class Generated:
    """What a subject wrote, row by row in the order of the prompts.

    stopped: why each row ended: "end" (the model's own end token), "stop" (one of yours), "tokens" (as many as asked for) or
    "context" (no more fit the subject). acts: the sites read, one row a token run, [t d] ([t h dh] for heads; maps of attention
    [h t s] over all s tokens of the row); a generated token's row stands at its own place in `ids`. valid: of sites that not
    every token reaches (experts), which rows count.
    """

    prompts: tuple[Int[Tensor, " _"], ...]  # [p] a row, without padding
    ids: tuple[Int[Tensor, " _"], ...]  # [g] a row; the token that ended a row included
    text: tuple[str, ...]  # without it, and cut before a stop string
    logprobs: tuple[Float[Tensor, " _"], ...]  # [g] a row: nats, of the model itself: temperature 1, nothing left out
    stopped: tuple[str, ...]
    acts: tuple[Mapping[Site, Tensor], ...]
    valid: tuple[Mapping[Site, Tensor], ...] = ()


class Token(NamedTuple):
    """One token as it comes. text: what it adds to its row's text: "" while a character is not whole, and for an end."""

    row: int
    id: int
    text: str
    logprob: float
    stopped: str = ""  # why the row ends here, on its last token


def generate(
    subject: Subject,
    prompts: str | Sequence[Any] | Tensor | Inputs,
    *,
    tokens: int = 64,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop: Iterable[int | str] = (),
    ends: bool = True,
    read: str | Site | Iterable[str | Site] = (),
    read_where: Where = "both",
    write: Iterable[Any] = (),
    write_where: Where = "both",
    cache: bool | None = None,
) -> Generated:
    """Continue prompts: texts, lists of token ids, an id tensor [b t], or Inputs padded on either side.

    A row's tokens depend on its prompt and the seed alone, not on the batch, the padding or the cache. Rows that end leave the
    batch; the others go on.

    tokens: at most so many a row. temperature: 0 takes the likeliest token; above, one is drawn from softmax(logits /
    temperature), of the `top_k` likeliest only, of these the fewest that hold `top_p` of the probability. Equal prompts in one
    call are drawn apart. stop: token ids and strings that end a row; ends=False goes on past the model's own end token.

    read: sites whose values are kept, at the tokens of the prompt, the generated ones or both. The last token of a row is run
    only where its values are read. write: interventions at these tokens. With a cache the keys and values of a written prompt
    stay as written. An intervention sees the whole prompts [b p d] (padded as they were given; texts and lists on the left),
    then each generated token [b 1 d] of all b rows, with `Context.step` 0, 1, 2...; where `Context.mask` is False, a row has
    none. What stands in a changed subject sees each pass as it is run.

    cache: None takes one where the subject has one. False runs everything again for each token: the same numbers, slowly.

    Raises BadInput for prompts that cannot be continued and settings that cannot be, UnknownSite, and NotFinite for logits with
    NaN, naming row and token, Interrupted when asked to stop.
    """
    settings: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "stop": stop,
        "ends": ends,
    }
    sites: dict[str, Any] = {"read": read, "read_where": read_where, "write": write, "write_where": write_where}
    return Stream(subject, prompts, tokens=tokens, cache=cache, **settings, **sites).finish()


class Stream:
    """The same as `generate`, with the same settings, token by token: iterate over its `Token`s, of all rows as they come;
    `finish` runs what is left and gives the whole."""

    def __init__(
        self,
        subject: Subject,
        prompts: str | Sequence[Any] | Tensor | Inputs,
        *,
        tokens: int = 64,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        stop: Iterable[int | str] = (),
        ends: bool = True,
        read: str | Site | Iterable[str | Site] = (),
        read_where: Where = "both",
        write: Iterable[Any] = (),
        write_where: Where = "both",
        cache: bool | None = None,
    ):
        if not subject.causal or "logits" in subject.missing or any(site.stack for site in subject.order):
            raise BadInput(
                f"{subject.name} does not continue a text; expected a causal language model of one stack, with its head."
            )
        if type(tokens) is not int or tokens < 1:
            raise BadInput(f"tokens={tokens!r}; expected how many to generate at most, 1 or more.")
        if type(seed) is not int:
            raise BadInput(f"seed={seed!r}; expected a whole number.")
        self._sampling = Sampling(temperature, top_k, top_p)
        self.subject = subject
        self._tokens = tokens
        self._stops, self._strings = _stops(stop)
        self._ends: frozenset[int] = getattr(subject, "ends", frozenset()) if ends else frozenset()
        inputs = laid(subject, prompts)
        self._decoding = _decoding(subject, inputs, _asked(subject, read, read_where, write, write_where), cache)
        ids, mask = self._decoding.ids, self._decoding.mask
        self.prompts = tuple(row[real] for row, real in zip(ids, mask, strict=True))
        self._rooms = [min(tokens, subject.context - len(row)) for row in self.prompts]
        for index, room in enumerate(self._rooms):
            if room < 1:
                raise BadInput(
                    f"Prompt {index} has {len(self.prompts[index])} tokens, which leaves no room to generate: "
                    f"{subject.name} takes at most {subject.context}. Shorten the prompt."
                )
        self._streams = Streams([row.tolist() for row in self.prompts], seed) if temperature else None
        self._rows = [_Row() for _ in self.prompts]
        self._aloud = bool(self._strings)
        self._coming = self._run()

    def __iter__(self) -> Iterator[Token]:
        self._aloud = True
        return self._tokens_coming()

    def _tokens_coming(self) -> Iterator[Token]:
        for row, text in self._coming:
            this = self._rows[row]
            yield Token(row, this.ids[-1], text, this.logprobs[-1], this.stopped)

    def finish(self) -> Generated:
        """Run to the end; everything, what was iterated over included. After Interrupted, what came until then."""
        for _ in self._coming:
            continue
        rows, decoding, subject = self._rows, self._decoding, self.subject
        return Generated(
            prompts=self.prompts,
            ids=tuple(torch.tensor(row.ids) for row in rows),
            text=tuple(row.text(subject) for row in rows),
            logprobs=tuple(torch.tensor(row.logprobs) for row in rows),
            stopped=tuple(row.stopped for row in rows),
            acts=tuple({site: _joined(site, found) for site, found in acts.items()} for acts in decoding.acts),
            valid=tuple({site: torch.cat(found) for site, found in valid.items()} for valid in decoding.valid),
        )

    def _run(self) -> Iterator[tuple[int, str]]:
        """Rows as they get a token, and what it adds to their text where that is listened to."""
        decoding, rows = self._decoding, self._rows
        logits, live = decoding.prompt(), list(range(len(rows)))
        self._check_stops(logits.shape[-1])
        runs_last = bool(decoding.asked.reads("generated"))
        for step in range(max(self._rooms)):
            if stop_requested():
                raise Interrupted(f"Stopped after {step} tokens of each row; nothing is saved.")
            ids, logprobs = self._chosen(logits, live, step)
            for row, number, logprob in zip(live, ids.tolist(), logprobs, strict=True):
                yield row, self._taken(row, number, logprob)
            left = [row for row in live if not rows[row].stopped]
            following = live if runs_last else left
            if not following:
                return
            if len(following) < len(live):
                ids = torch.tensor([rows[row].ids[-1] for row in following])
            after = decoding.go_on(following, ids, bool(left))
            if not left:
                return
            assert after is not None
            logits = after if len(left) == len(following) else after[[following.index(row) for row in left]]
            live = left

    def _chosen(self, logits: Tensor, live: list[int], step: int) -> tuple[Tensor, list[float]]:
        """A token and its log-probability for every row still live."""
        uniform = None if self._streams is None else self._streams.at(step, live)
        ids = self._sampling.choose(logits, uniform)
        logprobs = logits.log_softmax(-1, dtype=torch.float32).gather(1, ids[:, None]).flatten().tolist()
        if bad := [row for row, each in zip(live, logprobs, strict=True) if math.isnan(each)]:
            raise NotFinite(
                f"The logits for token {step + 1} of row {bad[0]} hold NaN or infinity. Look at the weights "
                "and at what is written, or use a wider dtype."
            )
        return ids, logprobs

    def _taken(self, row: int, number: int, logprob: float) -> str:
        """Put a token at the end of its row, and end the row where it must; its text, where that is listened to."""
        this = self._rows[row]
        this.ids.append(number)
        this.logprobs.append(logprob)
        if number in self._ends:
            this.stopped = "end"
        elif number in self._stops:
            this.stopped = "stop"
        elif len(this.ids) == self._rooms[row]:
            this.stopped = "tokens" if len(this.ids) == self._tokens else "context"
        if not self._aloud:
            return ""
        silent = this.stopped in ("end", "stop")
        return this.hear(b"" if silent else _written(self.subject, [number]), self._strings)

    def _check_stops(self, vocabulary: int) -> None:
        for number in self._stops:
            if not 0 <= number < vocabulary:
                raise BadInput(f"stop={number} is no token of {self.subject.name}, which has ids 0 to {vocabulary - 1}.")


class _Row:
    """What one row has generated so far."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.stopped = ""
        self._heard = ""
        self._cut: int | None = None  # where a stop string stands
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")

    def hear(self, written: bytes, strings: Sequence[str]) -> str:
        """Add a token's text and look for a stop string; gives what is added, "" while its last character is not whole."""
        new = self._decoder.decode(written, final=bool(self.stopped))
        before, self._heard = len(self._heard), self._heard + new
        found = [place for one in strings if (place := self._heard.find(one, max(0, before - len(one) + 1))) >= 0]
        if found:
            self.stopped, self._cut = "stop", min(found)
        return new

    def text(self, subject: Subject) -> str:
        """All of it, without what ended it."""
        if self._cut is not None:
            return self._heard[: self._cut]
        ended = self.stopped in ("end", "stop")
        return _written(subject, self.ids[:-1] if ended else self.ids).decode("utf-8", errors="backslashreplace")


def _written(subject: Subject, ids: Sequence[int]) -> bytes:
    """The bytes of a text, of which a token may hold part of a character."""
    own = getattr(subject, "written", None)
    return "".join(subject.pieces(ids)).encode() if own is None else own(ids)


def _stops(stop: Iterable[int | str]) -> tuple[frozenset[int], tuple[str, ...]]:
    """Token ids and strings that end a row. Raises BadInput."""
    given = [stop] if isinstance(stop, int | str) else list(stop)
    for each in given:
        if isinstance(each, bool) or not isinstance(each, int | str) or each == "":
            raise BadInput(f"stop={each!r}; expected token ids and strings that are not empty.")
    return frozenset(each for each in given if isinstance(each, int)), tuple(each for each in given if isinstance(each, str))


def _asked(subject: Subject, read: Any, read_where: Any, write: Iterable[Any], write_where: Any) -> Asked:
    for name, where in (("read_where", read_where), ("write_where", write_where)):
        if where not in get_args(Where):
            raise BadInput(f"{name}={where!r}; expected 'prompt', 'generated' or 'both'.")
    items: tuple[Intervention, ...] = tuple(flatten(write))
    for item in items:
        resolve(item.site, subject.sites, subject.missing)
    return Asked(tuple(resolve(read, subject.sites, subject.missing)), read_where, items, write_where)


def _decoding(subject: Subject, inputs: Inputs, asked: Asked, cache: bool | None) -> Decoding:
    has = bool(getattr(subject, "caches", False))
    if cache and not has:
        raise BadInput(f"cache=True given, and {subject.name} has no cache; leave it out, and everything is run at each step.")
    return (Cached if (has if cache is None else cache) else Rerun)(subject, inputs, asked)


def _joined(site: Site, found: list[Tensor]) -> Tensor:
    """All tokens of a row; maps of attention over as many keys as the last token has."""
    if site.kind not in MAPS:
        return torch.cat(found)
    keys = found[-1].shape[-1]
    empty = 0.0 if site.kind == "attn_pattern" else torch.finfo(found[0].dtype).min
    return torch.cat([torch.nn.functional.pad(x, (0, keys - x.shape[-1]), value=empty) for x in found], dim=-2)
