"""Patch correspondences: counterparts, scores and votes by hand, edits that change them, and decisions kept."""

import pytest
import torch
from torch import nn

import actscope as act
from actscope.core.errors import BadInput, UnknownSite
from actscope.explainers.chm_corr_plus import Correspondences, chm_corr_plus


class Cells(nn.Module):
    """Every pixel of a picture with several channels is a patch; each picture's mean is what it gives."""

    def __init__(self):
        super().__init__()
        self.map = nn.Identity()

    def forward(self, x):
        return self.map(x).mean((2, 3))


def made(parts: list[list[int]], habitat: int) -> torch.Tensor:
    """A picture of 3 x 3 patches with one of 8 textures each, all of one habitat but for (place, texture) pairs."""
    x = torch.zeros(8, 3, 3)
    x[habitat] = 1.0
    for place, texture in parts:
        x[:, place // 3, place % 3] = torch.eye(8)[texture]
    return x


@pytest.fixture
def told():
    """Class 0: texture 0, mostly in habitat 6; class 1: texture 1, mostly in 7. The first query is of class 0, in habitat 7."""
    images = torch.stack([made([[place, kind]], 6 + (kind if place else 1 - kind)) for kind in (0, 1) for place in range(9)])
    labels = torch.arange(2).repeat_interleave(9)
    queries = torch.stack([made([[4, 0]], 7), made([[2, 1]], 6)])
    subject = act.wrap(Cells(), sites={"layers.0.resid_post": "map"}, example=images[:1])
    return subject, images, labels, queries


def test_habitat_misleads_the_machine_and_the_part_puts_it_right(told, tmp_path):
    subject, images, labels, queries = told
    cases = chm_corr_plus(subject, images, labels, queries, site="layers.0.resid_post", shortlist=18, voters=9)
    assert cases.said().tolist() == [1, 0]  # by habitat
    kept = torch.zeros(2, 9, dtype=torch.bool)
    kept[0, 4], kept[1, 2] = True, True
    assert cases.said(kept).tolist() == [0, 1] and cases.votes(kept).tolist() == [[9, 0], [0, 9]]
    assert torch.equal(cases.scores(kept), (cases.labels == torch.tensor([[0], [1]])).float())
    assert torch.equal(cases.said(torch.zeros(2, 9, dtype=torch.bool)), cases.said())  # nothing chosen: the machine chooses
    first = cases.explained(kept, shown=2)[0]
    assert (first.latent, first.method) == (0, "chm_corr_plus") and first.evidence["votes"] == {"0": 9}
    assert first.evidence["patches"] == [4] and len(first.evidence["images"]) == 2
    for one in first.evidence["images"]:
        assert one["class"] == labels[one["number"]] == 0 and one["score"] == 1.0
        ((patch, place, cosine),) = one["patches"]
        assert patch == 4 and cosine == 1.0 and images[one["number"], 0, place // 3, place % 3] == 1
    cases.decide(0, False)
    assert cases.decide(0, True, kept[0]) == (0, 0, True, (4,))
    assert [entry["said"] for entry in cases.log] == [1, 0] and cases.log[0]["kept"] is None
    act.save({"log": cases.log, "why": cases.explained()}, tmp_path / "log")
    assert act.open(tmp_path / "log") == {"log": cases.log, "why": cases.explained()}


def test_a_counterpart_is_no_further_off_than_it_may_be(told):
    subject, images, labels, queries = told
    rest = {"site": "layers.0.resid_post", "shortlist": 18, "voters": 9}
    far, near = (chm_corr_plus(subject, images, labels, queries, **rest, reach=reach) for reach in (None, 1))
    place, listed = near.place[0, :, 0], near.listed[0]
    assert ((place // 3 <= 1) & (place % 3 <= 1)).all() and torch.equal(listed, far.listed[0])
    assert (near.cosine <= far.cosine + 1e-6).all() and (near.cosine < far.cosine - 0.5).any()


def test_the_machine_scores_by_the_five_best_of_the_patches_it_counts():
    cosine = torch.tensor([[[0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [1.0, 1.0, 0.1, 0.1, 0.1, 0.1]]])
    counted = torch.tensor([[[True] * 6, [False, True, True, True, True, True]]])
    cases = Correspondences(torch.tensor([[3, 5]]), torch.tensor([[0, 1]]), cosine, torch.zeros(1, 2, 6).long(), counted, 2, 1)
    torch.testing.assert_close(cases.scores(), torch.tensor([[0.7, 0.28]]))
    kept = torch.tensor([[True, True, False, False, False, False]])
    torch.testing.assert_close(cases.scores(kept), torch.tensor([[0.85, 1.0]]))
    assert cases.said().tolist() == [0] and cases.said(kept).tolist() == [1]


def test_tokens_of_a_vision_transformer_are_patches_without_the_class_token():
    from actscope.organisms.digits import digits

    subject, split = digits(0, kind="vit", width=16, layers=1, epochs=0)
    x, labels = split.judge.pixels[:30], split.judge.labels[:30]
    cases = chm_corr_plus(subject, x, labels, x[:4], site="layers.0.resid_post", shortlist=10, voters=1)
    assert cases.cosine.shape == (4, 10, 16) and cases.listed[:, 0].tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(cases.cosine[:, 0], torch.ones(4, 16))  # each is its own nearest, patch by patch
    assert cases.place[:, 0].tolist() == [list(range(16))] * 4


def test_what_cannot_be_is_refused(told):
    subject, images, labels, queries = told
    with pytest.raises(BadInput, match="no more voters than are shortlisted"):
        chm_corr_plus(subject, images, labels, queries, site="layers.0.resid_post", shortlist=5, voters=6)
    with pytest.raises(BadInput, match="a square map of patches"):
        chm_corr_plus(subject, images, labels, queries, site="logits", shortlist=5, voters=1)
    with pytest.raises(UnknownSite):
        chm_corr_plus(subject, images, labels, queries, site="layers.3.resid_post", shortlist=5, voters=1)
    cases = chm_corr_plus(subject, images, labels, queries, site="layers.0.resid_post", shortlist=5, voters=1)
    with pytest.raises(BadInput, match="expected one of"):
        cases.said(torch.zeros(2, 4, dtype=torch.bool))
