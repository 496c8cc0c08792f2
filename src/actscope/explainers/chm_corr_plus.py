"""Images classified by their patches' counterparts in labelled images, with a say in which patches count. Nguyen, Taesiri, Kim
and Nguyen 2024, "Allowing humans to interactively guide machines where to look does not always improve human-AI team's
classification accuracy" (arXiv:2404.05238); the classifier is CHM-Corr (Taesiri, Nguyen and Nguyen 2022, arXiv:2208.00780).

    1. A vector for every patch of every image: what a subject has at a site, as a map or as tokens.
    2. Shortlist: the N labelled images nearest to the query by the cosine of their mean vectors.
    3. In each, every patch of the query has a counterpart: the patch whose vector is nearest by cosine, at most `reach` patches
       off. (The paper finds counterparts by a trained network, Convolutional Hough Matching.)
    4. Which patches count is first the machine's choice, pair by pair: those whose cosine with the other image's mean vector,
       brought to 0..1 over the query, is above a threshold. An image scores the mean of the five best of them.
    5. The K images that score most vote; the class with most votes is said.
    6. A user says which patches count. An image then scores the mean cosine over these, and the vote is taken anew.
    7. Each decision of a user about what is said, with or without such an edit, is logged.

Letters: n labelled images, q queries, p patches, N shortlisted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.inputs import Inputs
from actscope.core.site import Site
from actscope.core.subject import Subject

__all__ = ["chm_corr_plus"]

_BATCH = 256  # images run at a time
_BEST = 5  # patches whose mean an image scores, and correspondences shown of an image


def chm_corr_plus(
    subject: Subject,
    images: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    queries: Float[Tensor, "q c h w"],
    *,
    site: str | Site,
    shortlist: int = 50,
    voters: int = 20,
    threshold: float = 0.55,
    reach: int | None = None,
) -> "Correspondences":
    """Queries classified by patch correspondences that can be edited (Nguyen et al. 2024, arXiv:2404.05238).

    images, labels: to look among; queries: others. site: with a map [b c h w], or with tokens of which the first is a class
    token and the others a square of patches. shortlist: N; voters: K; threshold: of step 4; reach: see step 3 (None: anywhere).
    `.said()` and `.explained()` give classes and explanations, of the queries as they are or with patches chosen by a user.

    Raises BadInput for images without their labels, numbers that cannot be, or a site that has no patches; UnknownSite.
    """
    if len(images) != len(labels) or not 1 <= voters <= shortlist <= len(images) or (reach is not None and reach < 0):
        raise BadInput(
            f"{len(images)} images with {len(labels)} labels, shortlist={shortlist}, voters={voters}, reach={reach}; expected "
            "a label for each image, no more voters than are shortlisted, and no more of these than images."
        )
    where = site if isinstance(site, Site) else Site.parse(site)
    known, asked = _patches(subject, images, where), _patches(subject, queries, where)
    middle, other = (functional.normalize(x.flatten(2).mean(2), dim=1) for x in (asked, known))
    listed = (middle @ other.T).topk(shortlist, dim=1).indices
    near = [_counterparts(query, known[some], reach) for query, some in zip(asked, listed, strict=True)]
    cosine, place = (torch.stack(part) for part in zip(*near, strict=True))
    whole = torch.einsum("qdp,qNd->qNp", functional.normalize(asked.flatten(2), dim=1), other[listed])
    low, high = whole.amin(2, keepdim=True), whole.amax(2, keepdim=True)
    counted = (whole - low) / (high - low).clamp(min=1e-12) > threshold
    return Correspondences(listed, labels[listed], cosine, place, counted, asked.shape[2], voters)


class Decision(NamedTuple):
    """What a user decided. said: the class they were told in the end; kept: the patches they chose, where they chose any."""

    query: int
    said: int
    accepted: bool
    kept: tuple[int, ...] | None


@dataclass(frozen=True)
class Correspondences:
    """Queries with the images shortlisted for each. log: the decisions so far, in order; `act.save` keeps it as it is."""

    listed: Int[Tensor, "q N"]
    labels: Int[Tensor, "q N"]
    cosine: Float[Tensor, "q N p"]  # of a patch and its counterpart
    place: Int[Tensor, "q N p"]  # the counterpart
    counted: Bool[Tensor, "q N p"]  # the machine's choice of patches
    side: int  # patches a side
    voters: int
    log: list[dict[str, object]] = field(default_factory=list)

    def scores(self, kept: Bool[Tensor, "q p"] | None = None) -> Float[Tensor, "q N"]:
        """How well each shortlisted image goes with its query. kept: the patches that count, as a user chose them; where none
        is chosen, and for None, the machine chooses."""
        own = (self.cosine * self.counted).topk(min(_BEST, self.cosine.shape[2]), dim=2).values.mean(2)
        if kept is None:
            return own
        if kept.shape != (len(self.listed), self.cosine.shape[2]):
            raise BadInput(f"kept has shape {tuple(kept.shape)}; expected one of {(len(self.listed), self.cosine.shape[2])}.")
        chosen = (self.cosine * kept[:, None]).sum(2) / kept.sum(1).clamp(min=1)[:, None]
        return torch.where(kept.any(1)[:, None], chosen, own)

    def votes(self, kept: Bool[Tensor, "q p"] | None = None) -> Int[Tensor, "q k"]:
        """How many of the voters are of each class."""
        best = self.labels.gather(1, self.scores(kept).topk(self.voters, dim=1).indices)
        return functional.one_hot(best, int(self.labels.max()) + 1).sum(1)

    def said(self, kept: Bool[Tensor, "q p"] | None = None) -> Int[Tensor, " q"]:
        """The class said of each query; of several with most votes the lowest."""
        return self.votes(kept).argmax(1)

    def explained(
        self, kept: Bool[Tensor, "q p"] | None = None, *, queries: Sequence[int] | None = None, shown: int = 5
    ) -> list[Explanation]:
        """Why: for each query, the images that score most of the class said, and their best correspondences.

        `latent` is the class said. evidence: "query", "votes" (class -> votes), "patches" (those a user kept; None: the
        machine chose), "images": for each shown, its "number", "class", "score" and "patches": [patch of the query, patch of
        the image, cosine], the best first. Patches are numbered row by row.
        """
        scores, votes = self.scores(kept), self.votes(kept)
        found = []
        for query in range(len(self.listed)) if queries is None else queries:
            chosen = None if kept is None or not kept[query].any() else kept[query]
            said = int(votes[query].argmax())
            order = scores[query].argsort(descending=True)
            best = [one for one in order.tolist() if int(self.labels[query, one]) == said][:shown]
            told = {str(kind): count for kind, count in enumerate(votes[query].tolist()) if count}
            evidence = {
                "query": query,
                "votes": told,
                "patches": None if chosen is None else chosen.nonzero()[:, 0].tolist(),
                "images": [self._pair(query, one, scores, chosen) for one in best],
            }
            text = f"class {said}, by {votes[query, said]} of {self.voters} votes of images with like patches"
            found.append(Explanation(said, text, "chm_corr_plus", None, evidence))
        return found

    def decide(self, query: int, accepted: bool, kept: Bool[Tensor, " p"] | None = None) -> Decision:
        """Log that a user accepted, or did not, what is said of a query. kept: the patches they chose before, if any."""
        every = None if kept is None else torch.zeros_like(self.counted[:, 0]).index_put((torch.tensor([query]),), kept[None])
        edit = None if kept is None else tuple(kept.nonzero()[:, 0].tolist())
        made = Decision(query, int(self.said(every)[query]), accepted, edit)
        self.log.append(made._asdict())
        return made

    def _pair(self, query: int, one: int, scores: Float[Tensor, "q N"], kept: Bool[Tensor, " p"] | None) -> dict[str, object]:
        counted = self.counted[query, one] if kept is None else kept
        cosine = torch.where(counted, self.cosine[query, one], -torch.inf)
        best = cosine.topk(min(_BEST, int(counted.sum()))).indices.tolist()
        return {
            "number": int(self.listed[query, one]),
            "class": int(self.labels[query, one]),
            "score": float(scores[query, one]),
            "patches": [[patch, int(self.place[query, one, patch]), float(cosine[patch])] for patch in best],
        }


@torch.no_grad()
def _patches(subject: Subject, images: Float[Tensor, "n c h w"], site: Site) -> Float[Tensor, "n d s s"]:
    """Step 1."""
    x = torch.cat([subject.run(Inputs(pixels=part), read=[site]).acts[site] for part in images.split(_BATCH)])
    side = round((x.shape[1] - 1) ** 0.5) if x.dim() == 3 else x.shape[-1]
    square = (x.dim() == 3 and side * side == x.shape[1] - 1) or (x.dim() == 4 and x.shape[2] == x.shape[3])
    if not square or side < 2:
        raise BadInput(f"{site} gives {tuple(x.shape)}; expected a square map of patches, or a class token and such patches.")
    return x if x.dim() == 4 else x[:, 1:].transpose(1, 2).unflatten(2, (side, side))


def _counterparts(
    query: Float[Tensor, "d s s"], images: Float[Tensor, "N d s s"], reach: int | None
) -> tuple[Float[Tensor, "N p"], Int[Tensor, "N p"]]:
    """Step 3: (cosine, place) of every patch's counterpart."""
    mine, theirs = functional.normalize(query.flatten(1), dim=0), functional.normalize(images.flatten(2), dim=1)
    cosine = torch.einsum("dp,Ndr->Npr", mine, theirs)
    if reach is not None:
        side = query.shape[1]
        row, column = torch.arange(side * side) // side, torch.arange(side * side) % side
        off = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs())
        cosine = cosine.masked_fill(off > reach, -torch.inf)
    best = cosine.max(2)
    return best.values, best.indices
