"""Features whose causes are rules over real text, known by construction: what explanations and their scores are judged by.

A store of a subject's text gets one more port, whose rows say which features are active: each is a rule over the text (tokens,
a run of tokens, a conjunction, a rule with exceptions, what came earlier), or, for features that only act, chance. A dictionary
reads the features off that port and writes their directions into the subject's last residual stream, where each promotes
tokens of its own or none. So a feature can be explained, detected and steered with as a learned one can, and the true
explanation comes with it.

Letters: n rows, m features, d width, v vocabulary.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.batch import Batch
from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.predicate import All, Any, Earlier, LineBegins, Ngram, Not, Predicate, Repeated, TokenIn, named
from actscope.core.site import Port
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.core.text import TokenText

__all__ = ["planted_rules"]

FEATURES = Port.parse("module:planted_rules:out")  # where the features stand in the store
PROMOTED = 6  # tokens that a feature with an effect promotes
_LEAST, _MOST = 0.004, 0.12  # share of the rows at which a rule may hold
_CHANCE = 0.02  # how often a feature without a rule is active

Kind = Literal["input", "both", "output"]


@dataclass(frozen=True)
class Feature:
    """cause: the rule it follows; None: chance. promotes: the next tokens that it makes likelier; () for none."""

    cause: Predicate | None
    promotes: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        return "output" if self.cause is None else "both" if self.promotes else "input"

    def explanation(self, latent: int) -> Explanation:
        """The true one. The rule is what sets the feature off; of an output-only feature it lists the tokens promoted."""
        says = [] if self.cause is None else [f"fires on {self.cause.sentence()}"]
        says += [f"makes {named(self.promotes)} likelier to come next"] if self.promotes else []
        rule = TokenIn(self.promotes) if self.cause is None else self.cause
        return Explanation(latent, "; ".join(says), "planted", rule, {"kind": self.kind, "promotes": list(self.promotes)})


class RuleFeatures(Dictionary):
    """Latent j is column j of the port it reads; its direction is atom j. What is read is already the code."""

    def __init__(self, read: Port, write: Port, atoms: Float[Tensor, "m d"]):
        super().__init__(reads={read: len(atoms)}, writes={write: atoms.shape[1]}, n_latents=len(atoms), settings={})
        self.register_buffer("directions", atoms)

    def preacts(self, x):
        return self.joined(x)

    def encode(self, x, *, grads=None) -> Codes:
        return Codes.from_dense(self.joined(x).relu())

    def decode(self, codes, x=None):
        return {self.write: codes.dense() @ self.get_buffer("directions")}

    @property
    def atoms(self) -> dict[Port, Tensor]:
        return {self.write: self.get_buffer("directions")}


class RuleStore:
    """A store, with one more port: row i of `features`."""

    def __init__(self, store: Store, port: Port, features: Float[Tensor, "n m"]):
        self.store, self.port, self.features = store, port, features
        self.ports: Mapping[Port, int] = {**store.ports, port: features.shape[1]}
        self.subjects, self.documents = store.subjects, store.documents
        self.content = f"{store.content}+{float(features.double().sum())}"

    def __len__(self) -> int:
        return len(self.store)

    @property
    def text(self) -> tuple[Tensor, Tensor]:
        return self.store.text

    def rows(self, index: Tensor, ports: Iterable[Port]) -> Batch:
        others = [port for port in ports if port != self.port]
        if not others:
            return Batch({self.port: self.features[index]}, self.text[1][index])
        found = self.store.rows(index, others)
        return Batch({**found.acts, self.port: self.features[index]}, found.where)

    def batches(self, ports, size: int, *, seed: int | None = None, start: int = 0) -> Iterator[Batch]:
        order = torch.arange(len(self)) if seed is None else torch.randperm(
            len(self), generator=torch.Generator().manual_seed(seed)
        )  # fmt: skip
        return (self.rows(piece, ports) for piece in order.split(size)[start:])

    def tokens(self, where, before, after):
        return self.store.tokens(where, before, after)

    def sequences(self, size: int, documents=None):
        return self.store.sequences(size, documents)


@dataclass(frozen=True)
class Planted:
    """What `planted_rules` gives. features[j] is what is true of latent j."""

    dictionary: RuleFeatures
    store: RuleStore
    features: tuple[Feature, ...]

    @property
    def explanations(self) -> list[Explanation]:
        """The true ones."""
        return [feature.explanation(latent) for latent, feature in enumerate(self.features)]

    def latents(self, *kinds: Kind) -> list[int]:
        return [latent for latent, feature in enumerate(self.features) if feature.kind in kinds]


def planted_rules(
    subject: Subject,
    store: Store,
    *,
    rules: Sequence[Predicate | None] | None = None,
    outputs: int = 6,
    flip: float = 0.0,
    alarm: float = 0.0,
    seed: int = 0,
) -> Planted:
    """Features that follow rules over the text of a store, and some that only act.

    rules: one for each feature (None: those of `rules_of` for this text, every second with an effect of its own, and after
    them `outputs` features without a rule). flip: the share of a rule's places where its feature is silent; alarm: the
    number of places where it is active without the rule, as a share of those where the rule holds. The same seed gives the
    same features. Raises BadInput for a subject without a last residual stream, an unembedding and a rule that never holds.
    """
    text = TokenText.of(store, subject)
    draw = torch.Generator().manual_seed(seed)
    causes: list[Predicate | None] = [*rules_of(text, draw), *[None] * outputs] if rules is None else list(rules)
    common = _common(text, draw)
    tokens = common[: len(common) // PROMOTED * PROMOTED].view(-1, PROMOTED)
    acts = [cause is None or number % 2 == 1 for number, cause in enumerate(causes)]
    promotes = [tokens[i % len(tokens)] if act else tokens[0, :0] for i, act in enumerate(acts)]
    write, atoms = directions(subject, promotes)
    features = tuple(
        Feature(cause, tuple(dict.fromkeys(text.vocabulary[token] for token in some.tolist())))
        for cause, some in zip(causes, promotes, strict=True)
    )
    columns = activations(causes, text, draw, flip=flip, alarm=alarm)
    return Planted(RuleFeatures(FEATURES, write, atoms), RuleStore(store, FEATURES, columns), features)


def activations(
    causes: Sequence[Predicate | float | None], text: TokenText, draw: torch.Generator, *, flip: float = 0.0, alarm: float = 0.0
) -> Float[Tensor, "n m"]:
    """A column for each cause: between 0.1 and 1.1 where it is active, else 0. A number is a chance of being active."""
    columns = []
    for cause in causes:
        noise = torch.rand(len(text), generator=draw)
        if cause is None or isinstance(cause, int | float):
            held = noise < (_CHANCE if cause is None else cause)
        else:
            holds = cause.holds(text)
            if not bool(holds.any()):
                raise BadInput(f"The rule {cause.sentence()!r} holds nowhere in this text; plant one that does.")
            held = torch.where(holds, noise >= flip, noise < alarm * holds.float().mean())
        columns.append(held * (0.1 + torch.rand(len(text), generator=draw)))
    return torch.stack(columns, 1)


@torch.no_grad()
def directions(subject: Subject, promotes: Sequence[Int[Tensor, " _"]]) -> tuple[Port, Float[Tensor, "m d"]]:
    """Where features write, and a unit direction for each: the one whose logits, by the direct path, are nearest to 1 at its
    tokens and 0 at all others; without tokens, the one that the last norm takes away, which does nothing."""
    streams = [site for site in subject.sites if site.kind == "resid_post"]
    weights = {name: value for name, value in subject.weights().items() if value.dim() == 2}
    last = max(streams, key=lambda site: site.layer or 0, default=None)
    width = 0 if last is None else subject.sites[last].width
    heads = [value for name, value in weights.items() if name.endswith(("lm_head.weight", "embed_out.weight"))]
    if last is None or not heads or heads[0].shape[1] != width:
        raise BadInput(f"{subject.name} has no last residual stream with an unembedding that planted features could write to.")
    unembed = heads[0].float().cpu()
    gain = next((v for n, v in subject.weights().items() if n.endswith(("final_layer_norm.weight", "ln_f.weight"))), None)
    unembed = unembed if gain is None else unembed * gain.float().cpu()
    unembed = unembed - unembed.mean(0)
    unembed = unembed - unembed.mean(1, keepdim=True)
    wanted = torch.stack([torch.zeros(len(unembed)).index_fill_(0, tokens, 1.0) for tokens in promotes], 1)
    nearest = torch.linalg.lstsq(unembed, wanted).solution.T
    atoms = torch.stack([one if len(tokens) else torch.ones(width) for one, tokens in zip(nearest, promotes, strict=True)])
    return Port(last), torch.nn.functional.normalize(atoms, dim=1)


def rules_of(text: TokenText, draw: torch.Generator, *, each: int = 4) -> list[Predicate]:
    """`each` rules of eight kinds, in the words of this text, of those that hold on a share of the rows that can be judged:
    one token, several, a run of two, two conditions, a rule with an exception about the word before, one with an exception
    about what came earlier, tokens after a word, either of two."""
    tokens = [text.vocabulary[token] for token in _common(text, draw).tolist()]
    before, after = _pairs(text)
    order = torch.randperm(len(before), generator=draw).tolist()
    runs = [(text.vocabulary[before[i]], text.vocabulary[after[i]]) for i in order]
    sets = [tuple(dict.fromkeys(tokens[i : i + 3])) for i in range(0, len(tokens) - 2, 3)]
    followers = {first: tuple(dict.fromkeys(b for a, b in runs if a == first)) for first, _ in runs}
    leaders = {second: tuple(dict.fromkeys(a for a, b in runs if b == second)) for _, second in runs}
    kinds: list[list[Predicate]] = [
        [TokenIn((token,)) for token in tokens],
        [TokenIn(some) for some in sets],
        [Ngram(run) for run in runs],
        [All((TokenIn(followers[a][:6]), TokenIn((a,), 1))) for a, _ in runs if len(followers[a]) > 1],
        [All((TokenIn((b,)), Not(TokenIn(leaders[b][:2], 1)))) for _, b in runs if len(leaders[b]) > 2],
        [All((TokenIn(some), Not(Repeated()))) for some in sets],
        [Earlier((token,), 4) for token in tokens],
        [Any((TokenIn(some), LineBegins((token,)))) for some, token in zip(sets, tokens, strict=False)],
    ]
    found: list[Predicate] = []
    for some in kinds:
        kept = (rule for rule in dict.fromkeys(some) if _LEAST <= float(rule.holds(text).float().mean()) <= _MOST)
        found += [rule for _, rule in zip(range(each), kept, strict=False)]
    return found


def _common(text: TokenText, draw: torch.Generator) -> Int[Tensor, " k"]:
    """Ids of tokens with letters, neither rare nor everywhere, in an order of chance."""
    counts = torch.bincount(text.ids, minlength=len(text.vocabulary))
    worded = torch.tensor([piece.strip().isalpha() for piece in text.vocabulary])
    kept = (worded & (counts > 0)).nonzero()[:, 0]
    kept = kept[counts[kept].argsort(descending=True, stable=True)][5:300]
    return kept[torch.randperm(len(kept), generator=draw)]


def _pairs(text: TokenText, most: int = 400) -> tuple[list[int], list[int]]:
    """The commonest pairs of neighbours."""
    first = text.earlier(1)
    inside: Bool[Tensor, " n"] = first >= 0
    keys, counts = (first[inside] * len(text.vocabulary) + text.ids[inside]).unique(return_counts=True)
    best = keys[counts.argsort(descending=True, stable=True)[:most]]
    return (best // len(text.vocabulary)).tolist(), (best % len(text.vocabulary)).tolist()
