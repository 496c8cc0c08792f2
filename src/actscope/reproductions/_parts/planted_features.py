"""Features of pocket whose meaning is known: what sets them off and what they promote, and explanations of known quality.

Letters: n rows, m latents, v vocabulary, d width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary
from actscope.core.explanation import Explanation
from actscope.core.predicate import TokenIn, named
from actscope.core.site import Port, Site
from actscope.core.subject import Subject

FIRES, PROMOTES = 8, 4  # tokens that set a latent off, that it promotes
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of an explanation's tokens that are others
READS = (Port.parse("embed"), Port.parse("layers.1.resid_post"))
SIZE = 40.0  # of what one unit of a latent writes; what stands there is some eight times as long
_OFTEN = 0.02  # share of tokens at which a latent fires that fires at random


class PlantedFeatures(Dictionary):
    """Latents that fire on tokens of their own, or at places that no text tells of; each writes a direction of its own.

    The token is known from its embedding. A latent without tokens fires by digits far behind the point of a random
    projection of the residual stream.
    """

    def __init__(self, subject: Subject, fires: Sequence[Tensor], atoms: Float[Tensor, "m d"], write: Site, *, seed: int):
        """fires: the token ids that set each latent off; none: at random."""
        width = subject.sites[READS[0].site].width
        super().__init__(reads=dict.fromkeys(READS, width), writes={Port(write): width}, n_latents=len(fires), settings={})
        draw = torch.Generator().manual_seed(seed)
        vocabulary = subject.sites[Site("logits")].width
        self.table = torch.zeros(vocabulary, len(fires))
        for latent, tokens in enumerate(fires):
            self.table[tokens, latent] = 0.5 + torch.rand(len(tokens), generator=draw)
        self.blind = torch.tensor([not len(tokens) for tokens in fires])
        self.chance = torch.randn(width, len(fires), generator=draw)
        self.directions = SIZE * normalize(atoms, dim=1)
        self.embeddings = embeddings(subject)

    def preacts(self, x):
        token, stream = self.joined(x).split(self.embeddings.shape[1], 1)
        ids = torch.cdist(token.float(), self.embeddings).argmin(1)
        digits = (1000 * (stream.float() @ self.chance)).frac().abs()
        return torch.where(self.blind & (digits < _OFTEN), 0.5 + digits / _OFTEN, self.table[ids])

    def encode(self, x, *, grads=None) -> Codes:
        return Codes.from_dense(self.preacts(x))

    def decode(self, codes, x=None):
        return {self.write: codes.dense() @ self.directions}

    @property
    def atoms(self) -> dict[Port, Tensor]:
        return {self.write: self.directions}


@torch.no_grad()
def embeddings(subject: Subject) -> Float[Tensor, "v d"]:
    """What stands at "embed" for every token."""
    ids = torch.arange(subject.sites[Site("logits")].width).split(subject.context)
    return torch.cat([subject.run(part[None], read=["embed"]).acts[Site("embed")][0].float() for part in ids])


@dataclass(frozen=True)
class Known:
    """A dictionary of planted features, and of each latent the tokens that set it off and those that it promotes."""

    dictionary: PlantedFeatures
    fires: list[Tensor]
    promotes: list[Tensor]
    kinds: list[str]  # "both", "input", "output"

    def latents(self, *kinds: str) -> list[int]:
        return [latent for latent, kind in enumerate(self.kinds) if kind in kinds]


def known(subject: Subject, counts: Int[Tensor, " v"], each: int, *, seed: int) -> Known:
    """`each` latents of three kinds: fires on tokens and promotes others ("both"); fires on tokens and moves nothing
    ("input": its direction is the same number everywhere, which the last norm takes away); fires at random and promotes
    tokens ("output"). counts: how often each token stands in the text; all tokens taken are among the more common ones."""
    draw = torch.Generator().manual_seed(seed)
    common = common_tokens(counts)
    order = common[torch.randperm(len(common), generator=draw)]
    kinds = [kind for kind in ("both", "input", "output") for _ in range(each)]
    sets = order[: len(kinds) * (FIRES + PROMOTES)].view(len(kinds), FIRES + PROMOTES)
    fires = [one[:FIRES] if kind != "output" else one[:0] for one, kind in zip(sets, kinds, strict=True)]
    promotes = [one[FIRES:] if kind != "input" else one[:0] for one, kind in zip(sets, kinds, strict=True)]
    atoms = directions(subject, promotes)
    last = max((site for site in subject.sites if site.kind == "resid_post"), key=lambda site: site.layer or 0)
    return Known(PlantedFeatures(subject, fires, atoms, last, seed=seed), fires, promotes, kinds)


def directions(subject: Subject, promotes: Sequence[Int[Tensor, " _"]]) -> Float[Tensor, "m d"]:
    """For each set of tokens the direction at the end of the stream that raises all of their logits alike and, as far as it
    can, no other's; for none the same number everywhere. Alike, or the true explanation would name tokens that never come."""
    weights = subject.weights()
    unembed = weights["lm_head.weight"].float() * weights["gpt_neox.final_layer_norm.weight"].float()
    unembed = unembed - unembed.mean(0)
    unembed = unembed - unembed.mean(1, keepdim=True)  # the last norm takes the mean away
    covariance = unembed.T @ unembed / len(unembed)
    covariance += 0.01 * covariance.trace() / len(covariance) * torch.eye(len(covariance))
    found = []
    for tokens in promotes:
        if not len(tokens):
            found.append(torch.ones(len(covariance)))
            continue
        lens = torch.linalg.solve(covariance, unembed[tokens].T)  # [d k]
        found.append(lens @ torch.linalg.solve(unembed[tokens] @ lens, torch.ones(len(tokens))))
    return torch.stack(found)


def common_tokens(counts: Int[Tensor, " v"]) -> Int[Tensor, " c"]:
    """Tokens ranked 20th to 600th by frequency, by falling frequency."""
    return counts.argsort(descending=True)[20:600]


def degraded(tokens: Int[Tensor, " k"], share: float, counts: Int[Tensor, " v"], *, seed: int) -> Int[Tensor, " k"]:
    """The tokens with `share` of them exchanged for others about as common; more are exchanged, the others stay exchanged."""
    draw = torch.Generator().manual_seed(seed)
    common = common_tokens(counts)
    rank = {token: place for place, token in enumerate(common.tolist())}
    found = tokens.tolist()
    for place in torch.randperm(len(tokens), generator=draw).tolist()[: round(share * len(tokens))]:
        near = rank[int(tokens[place])]
        nearby = common[max(0, near - 20) : near + 21].tolist()
        free = [token for token in nearby if token not in found and token not in tokens.tolist()]
        found[place] = free[int(torch.randint(len(free), (1,), generator=draw))]
    return torch.tensor(found)


def said(latent: int, tokens: Int[Tensor, " k"], vocabulary: Sequence[str], what: str) -> Explanation:
    """An explanation by tokens. what: "fires on" or "promotes"."""
    words = tuple(vocabulary[int(token)] for token in tokens)
    text = f"fires on {named(words)}" if what == "fires on" else f"makes {named(words)} likelier to come next"
    return Explanation(latent, text, "planted", TokenIn(words))


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """The correlation of ranks; ties get their mean rank; 0 where a side does not vary."""
    ranks = [_ranks(torch.tensor(list(side), dtype=torch.float64)) for side in (x, y)]
    a, b = (side - side.mean() for side in ranks)
    spread = float(a.norm() * b.norm())
    return float(a @ b) / spread if spread else 0.0


def _ranks(values: Tensor) -> Tensor:
    below = (values[:, None] > values).double().sum(1)
    return below + ((values[:, None] == values).double().sum(1) - 1) / 2


def per_latent(found: Mapping[str, Mapping[int, float]]) -> dict[int, dict[str, float]]:
    """step -> latent -> value, turned around; only latents that every step scored."""
    latents = set.intersection(*(set(one) for one in found.values()))
    return {latent: {step: found[step][latent] for step in found} for latent in sorted(latents)}
