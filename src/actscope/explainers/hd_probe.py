"""Read which concepts are bound to which roles in a model's last state. Bronzini et al. 2025, "Hyperdimensional Probe: Decoding
LLM Representations via Vector Symbolic Architectures" (arXiv:2509.25045).

    1. Codebook: a random vector of +1 and -1 for every role and every concept; two of them are nearly orthogonal.
    2. What a prompt holds is one vector: each role times its concept, elementwise (bind), summed over the prompt's pairs, and
       of the sum the sign (bundle); where the sum is 0 a coin is tossed.                          y = sign(sum_p r_p * c_p)
    3. State: at the prompt's last token, the vectors of the later half of the layers; k-means over these layers, prompt by
       prompt, and the sum of the centroids. With no more layers than clusters that is the sum of the layers.
    4. Encoder: an MLP from the state to y, by binary cross-entropy over coordinates. A coin's mean, 1/2, is what is trained on
       where the sum is 0; what comes out is the mean sign, between -1 and 1.
    5. Query: the encoder's vector times the role (unbind, for a role's square is 1) is near the concept bound to it: the
       nearest concept by cosine is the answer (cleanup), and the cosine is the probe's confidence.              y r . c / D

What the encoder gives are mean signs, and a vector of signs has length sqrt(D): the product over D is its mean cosine. The
cosine with the mean itself, a shorter vector the less the encoder is sure of anything, says less: it rises where the other
roles are in doubt.

Roles may be places in a record ("subject", "city") or, as in the paper, the keys that the prompt names ("Mexico" bound to
"peso"). With keys as roles the MLP does not find the product of a pair that it never saw; with places as roles each concept
adds a vector of its own, and combinations never seen are read (`actscope reproduce hd-probe` measures both).
The paper says k near 5 and 4096 dimensions; the encoder here is smaller than its 55 million parameters.
Letters: n prompts, l layers, d width, m pairs of a prompt, D dimensions of the codebook, r roles, c concepts, h hidden units.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from actscope.core import artifact
from actscope.core.dictionary import TrainableModule
from actscope.core.errors import BadInput, Corrupt, NotFinite, WrongSubject, nearest
from actscope.core.inputs import Inputs
from actscope.core.progress import Progress, quiet
from actscope.core.site import Site, resolve
from actscope.core.subject import Subject
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["hd_probe"]

_ROUNDS = 50  # of k-means over a prompt's layers


def hd_probe(
    subject: Subject,
    prompts: Sequence[str] | Tensor | Inputs,
    bindings: Sequence[Mapping[str, str]],
    *,
    roles: Sequence[str] | None = None,
    concepts: Sequence[str] | None = None,
    sites: Sequence[str | Site] | None = None,
    clusters: int = 5,
    dimensions: int = 4096,
    hidden: int = 512,
    dropout: float = 0.0,
    rows: int = 100_000,
    batch: int = 256,
    lr: float = 1e-3,
    seed: int = 0,
    states: Float[Tensor, "n d"] | None = None,
    progress: Progress = quiet,
) -> "HDProbe":
    """A probe that reads what is bound to a role in a subject's last state (Bronzini et al. 2025, arXiv:2509.25045).

    prompts: what `subject.prepare` takes, or Inputs; bindings: for each, role -> concept. roles, concepts: the vocabularies
    (None: those that occur, sorted). sites: of one width, with a vector a token (None: resid_post of the later half of the
    layers). clusters: of k-means over them. dimensions: of the codebook. hidden, dropout: of the encoder. rows: examples seen
    in training, repeats counted, `batch` a step; lr: the highest of Adam. seed: of codebook, encoder and order. states: those
    of the prompts, where a probe with the same sites and clusters has read them (`probe.states`); they are not read again.

    Raises BadInput for prompts and bindings that do not match, words outside the vocabularies, sites of several widths and
    sizes that cannot be; UnknownSite; NotFinite for states that hold NaN or infinity.
    """
    _check(bindings, clusters, dimensions, hidden, dropout)
    places = _sites(subject, sites)
    names = tuple(roles) if roles is not None else tuple(sorted({role for one in bindings for role in one}))
    words = tuple(concepts) if concepts is not None else tuple(sorted({word for one in bindings for word in one.values()}))
    pairs = _pairs(bindings, names, words)
    states = _states(subject, prompts, places, clusters) if states is None else states
    if len(states) != len(bindings):
        raise BadInput(
            f"{len(states)} prompts and {len(bindings)} bindings given; expected a mapping role -> concept for each prompt."
        )
    draw = torch.Generator().manual_seed(seed)
    role, concept = hypervectors(len(names), dimensions, draw), hypervectors(len(words), dimensions, draw)
    encoder = _Encoder(states, role, concept, hidden, dropout, draw)
    fit(encoder, _Prompts(states, pairs), Plan(rows=rows, batch=batch, lr=lr, seed=seed), progress=progress)
    weights = {name: value.detach().clone() for name, value in encoder.mlp.state_dict().items()}
    settings = {
        "clusters": clusters,
        "hidden": hidden,
        "dropout": dropout,
        "rows": rows,
        "batch": batch,
        "lr": lr,
        "seed": seed,
    }
    return HDProbe(
        subject.fingerprint, tuple(places), clusters, names, words, role, concept, encoder.mean, encoder.scale, weights,
        settings,
    )  # fmt: skip


class Answers(NamedTuple):
    """concepts: the one nearest to what is bound to the role, for each state; similarity: its mean cosine, -1 to 1."""

    concepts: tuple[str, ...]
    similarity: Float[Tensor, " n"]


@dataclass(frozen=True)
class HDProbe:
    """A fitted probe: `probe.query(probe.states(subject, prompts), role)`, or the prompts' own `Inputs` in their place."""

    subject: str  # fingerprint
    sites: tuple[Site, ...]
    clusters: int
    roles: tuple[str, ...]
    concepts: tuple[str, ...]
    role_vectors: Float[Tensor, "r D"]
    concept_vectors: Float[Tensor, "c D"]
    mean: Float[Tensor, " d"]  # of the states trained on
    scale: Float[Tensor, " d"]
    weights: Mapping[str, Tensor]  # of the encoder
    settings: Mapping[str, int | float]

    def states(self, subject: Subject, prompts: Sequence[str] | Tensor | Inputs) -> Float[Tensor, "n d"]:
        """The states of prompts, as the probe takes them. Raises WrongSubject for another subject than it was fitted on."""
        if subject.fingerprint != self.subject:
            raise WrongSubject(
                f"The probe was fitted on a subject with fingerprint {self.subject[:12]}; {subject.name} has "
                f"{subject.fingerprint[:12]}. Give the subject it was fitted on, or fit a probe on this one."
            )
        return _states(subject, prompts, self.sites, self.clusters)

    @torch.no_grad()
    def encode(self, states: Float[Tensor, "n d"]) -> Float[Tensor, "n D"]:
        """What each state holds, as the mean sign of every coordinate."""
        mlp = _MLP(len(self.mean), int(self.settings["hidden"]), self.role_vectors.shape[1], 0.0)
        mlp.load_state_dict(dict(self.weights))
        return torch.tanh(mlp.eval()((states - self.mean) / self.scale) / 2)

    def similarities(self, states: Float[Tensor, "n d"], role: str | Sequence[str]) -> Float[Tensor, "n c"]:
        """The mean cosine of every concept with what is bound to the role. role: one for all states, or one for each.
        Raises BadInput for a role that the probe does not have."""
        asked = [role] * len(states) if isinstance(role, str) else list(role)
        if len(asked) != len(states):
            raise BadInput(f"{len(asked)} roles asked of {len(states)} states; expected one role, or one for each state.")
        held = unbind(self.encode(states), self.role_vectors[_numbers(asked, self.roles, "role")])
        return cosines(held, self.concept_vectors)

    def query(self, states: Float[Tensor, "n d"], role: str | Sequence[str]) -> Answers:
        """The concept bound to a role in each state, with its similarity, which is low where the probe is not sure."""
        best = self.similarities(states, role).max(1)
        return Answers(tuple(self.concepts[number] for number in best.indices.tolist()), best.values)

    def save(self, path: Path | str) -> str:
        """Save into a folder; returns the content hash."""
        codes = {"role_vectors": self.role_vectors.to(torch.int8), "concept_vectors": self.concept_vectors.to(torch.int8)}
        return artifact.save({"hd_probe": {**vars(self), **codes}}, path)

    @staticmethod
    def open(path: Path | str) -> "HDProbe":
        """A saved probe. Raises Corrupt for one that was altered, BadInput for anything else than a probe."""
        found = artifact.open(path)
        if not isinstance(found, Mapping) or set(found) != {"hd_probe"}:
            raise BadInput(f"{path} holds no hyperdimensional probe; expected a folder that HDProbe.save wrote.")
        fields = dict(found["hd_probe"])
        if set(fields) != set(HDProbe.__dataclass_fields__):
            raise Corrupt(f"{path} holds a probe with other fields than this actscope's; fit it again.")
        codes = {name: fields[name].float() for name in ("role_vectors", "concept_vectors")}
        return HDProbe(**{**fields, **codes})


def hypervectors(count: int, dimensions: int, draw: torch.Generator) -> Float[Tensor, "count D"]:
    """Random vectors of +1 and -1."""
    return torch.randint(0, 2, (count, dimensions), generator=draw).float() * 2 - 1


def bind(role: Float[Tensor, "*m D"], concept: Float[Tensor, "*m D"]) -> Float[Tensor, "*m D"]:
    """The pair's vector, near neither of the two."""
    return role * concept


def unbind(whole: Float[Tensor, "*#m D"], role: Float[Tensor, "*#m D"]) -> Float[Tensor, "*m D"]:
    """What is bound to the role: binding undoes itself."""
    return whole * role


def bundle(pairs: Float[Tensor, "*n m D"]) -> Float[Tensor, "*n D"]:
    """The mean sign of the sum over the pairs, a tie being tossed: +1, -1, or 0 for a tie. Near each of the pairs."""
    return pairs.sum(-2).sign()


def cosines(means: Float[Tensor, "n D"], codebook: Float[Tensor, "c D"]) -> Float[Tensor, "n c"]:
    """The mean cosine of vectors of signs, of which each row is the mean, with every vector of a codebook."""
    return means @ codebook.T / codebook.shape[1]


def pooled(layers: Float[Tensor, "n l d"], clusters: int) -> Float[Tensor, "n d"]:
    """The sum of the centroids of k-means over each prompt's layers. It starts at layers evenly spaced; a cluster that loses
    its last layer keeps its centroid."""
    n, count, _ = layers.shape
    if count <= clusters:
        return layers.sum(1)
    x = layers.float()
    centroids = x[:, torch.linspace(0, count - 1, clusters).round().long()]
    before = torch.full((n, count), -1)
    for _ in range(_ROUNDS):
        whose = torch.cdist(x, centroids).argmin(2)
        if torch.equal(whose, before):
            break
        member = functional.one_hot(whose, clusters).to(x)  # [n l k]
        size = member.sum(1)[:, :, None]
        centroids = torch.where(size > 0, member.transpose(1, 2) @ x / size.clamp(min=1), centroids)
        before = whose
    return centroids.sum(1).to(layers)


class _MLP(nn.Module):
    """Three products, the middle one added to what it read."""

    def __init__(self, width: int, hidden: int, dimensions: int, dropout: float):
        super().__init__()
        self.first, self.middle = nn.Linear(width, hidden), nn.Linear(hidden, hidden)
        self.last, self.drop = nn.Linear(hidden, dimensions), nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n D"]:
        x = self.drop(functional.gelu(self.first(x)))
        return self.last(x + self.drop(functional.gelu(self.middle(x))))


class _Batch(NamedTuple):
    states: Float[Tensor, "n d"]
    pairs: Int[Tensor, "n m 2"]  # (role, concept), both -1 where a prompt has fewer


class _Prompts:
    """States and their pairs as the training loop reads them: each pass in an order drawn from its seed."""

    def __init__(self, states: Float[Tensor, "n d"], pairs: Int[Tensor, "n m 2"]):
        self.states, self.pairs = states, pairs

    def batches(self, size: int, *, seed: int, start: int) -> Iterator[_Batch]:
        order = torch.randperm(len(self.states), generator=torch.Generator().manual_seed(seed))
        for rows in order.split(size)[start:]:
            yield _Batch(self.states[rows], self.pairs[rows])


class _Encoder(TrainableModule):
    """Step 4 as something the training loop can train."""

    mean: Tensor
    scale: Tensor
    role: Tensor
    concept: Tensor

    def __init__(
        self, states: Float[Tensor, "n d"], role: Tensor, concept: Tensor, hidden: int, dropout: float, draw: torch.Generator
    ):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=draw)))
            self.mlp = _MLP(states.shape[1], hidden, role.shape[1], dropout)
        spread = states.std(0, correction=0)
        self.register_buffer("mean", states.mean(0))
        self.register_buffer("scale", torch.where(spread > 0, spread, 1.0))
        self.register_buffer("role", role)
        self.register_buffer("concept", concept)

    def objective(self, batch: _Batch, *, progress: float) -> dict[str, Tensor]:
        """{"loss": nats a coordinate}."""
        there = (batch.pairs[..., 0] >= 0)[..., None]
        number = batch.pairs.clamp(min=0)
        wanted = bundle(bind(self.role[number[..., 0]], self.concept[number[..., 1]]) * there)
        found = self.mlp((batch.states - self.mean) / self.scale)
        return {"loss": functional.binary_cross_entropy_with_logits(found, (wanted + 1) / 2)}


@torch.no_grad()
def _states(
    subject: Subject, prompts: Sequence[str] | Tensor | Inputs, sites: Sequence[Site], clusters: int
) -> Float[Tensor, "n d"]:
    """Step 3, in batches; on the CPU, in single precision."""
    found = []
    for inputs in _split(subject, prompts):
        acts = subject.run(inputs, read=sites).acts
        b, t = acts[sites[0]].shape[:2]
        mask = torch.ones(b, t, dtype=torch.long) if inputs.mask is None else inputs.mask.cpu().long()
        last = (mask * torch.arange(t)).argmax(1)
        layers = torch.stack([acts[site].cpu()[torch.arange(b), last].flatten(1).float() for site in sites], 1)
        found.append(pooled(layers, clusters))
    states = torch.cat(found)
    if not torch.isfinite(states).all():
        raise NotFinite("The states hold NaN or infinity; the subject's weights or inputs are not finite.")
    return states


def _split(subject: Subject, prompts: Sequence[str] | Tensor | Inputs, size: int = 128) -> Iterator[Inputs]:
    count = len(prompts) if not isinstance(prompts, Inputs) else next(len(value) for value in prompts if value is not None)
    if count == 0:
        raise BadInput("No prompts given; expected at least one.")
    for start in range(0, count, size):
        part = slice(start, start + size)
        if isinstance(prompts, Inputs):
            yield Inputs(*(None if value is None else value[part] for value in prompts))
        else:
            yield subject.prepare(prompts[part])  # type: ignore[arg-type]


def _sites(subject: Subject, names: Sequence[str | Site] | None) -> list[Site]:
    if names is None:
        layers = [site for site in subject.order if site.kind == "resid_post"]
        found = layers[len(layers) // 2 :]
    else:
        found = resolve(names, subject.sites, subject.missing)
    if not found:
        raise BadInput(f"{subject.name} has no site resid_post; say what to read with sites=, as `actscope sites` names them.")
    widths = {site: subject.sites[site.whole].width for site in found if site.whole in subject.sites}
    if len(set(widths.values())) > 1 or 0 in widths.values():
        listed = ", ".join(f"{site} ({width})" for site, width in widths.items())
        raise BadInput(f"The sites {listed} cannot be summed; expected sites of one width with a vector a token.")
    return found


def _check(bindings: Sequence[Mapping[str, str]], clusters: int, dimensions: int, hidden: int, dropout: float) -> None:
    if min(clusters, dimensions, hidden) < 1 or not 0 <= dropout < 1:
        raise BadInput(
            f"clusters={clusters}, dimensions={dimensions}, hidden={hidden}, dropout={dropout}; expected sizes of at least 1 "
            "and a dropout from 0 to below 1."
        )
    empty = [number for number, one in enumerate(bindings) if not one]
    if empty or not bindings:
        which = f"binding {empty[0]} is empty" if empty else "no bindings given"
        raise BadInput(f"Each prompt needs at least one role bound to a concept; {which}. Leave such prompts out.")


def _pairs(bindings: Sequence[Mapping[str, str]], roles: Sequence[str], concepts: Sequence[str]) -> Int[Tensor, "n m 2"]:
    most = max(len(one) for one in bindings)
    found = torch.full((len(bindings), most, 2), -1)
    for row, one in enumerate(bindings):
        found[row, : len(one), 0] = _numbers(list(one), roles, "role")
        found[row, : len(one), 1] = _numbers(list(one.values()), concepts, "concept")
    return found


def _numbers(given: Sequence[str], known: Sequence[str], what: str) -> Int[Tensor, " n"]:
    number = {name: place for place, name in enumerate(known)}
    if len(number) < len(known):
        raise BadInput(f"The {what}s {', '.join(known)} name one twice; expected each once.")
    for name in given:
        if name not in number:
            raise BadInput(
                f"{name!r} is no {what} of this probe{nearest(name, known)} It has {len(known)}: {', '.join(known)[:200]}."
            )
    return torch.tensor([number[name] for name in given])
