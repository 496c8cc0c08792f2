"""Any torch module as a subject."""

import pytest
import torch
from torch import nn

from actscope.core.change import Change, Delta
from actscope.core.errors import BadInput, UnknownSite
from actscope.core.inputs import Inputs
from actscope.core.intervention import Replace, Scale, Zero
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.subjects.module import wrap

X = torch.randn(4, 7, 5, generator=torch.Generator().manual_seed(0))


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 8), nn.Linear(8, 3))


SITES = {"layers.0.mlp_pre": "0", "layers.0.mlp_post": "1:out", "layers.1.mlp_in": "2:in", "layers.1.mlp_out": "2"}


def test_sites_are_read_bitwise_and_written():
    module = net()
    subject = wrap(module, sites=SITES, example=X)
    assert isinstance(subject, Subject) and subject.name == "Sequential"
    assert [str(site) for site in subject.order] == [*SITES, "logits"]
    run = subject.run(X, read=[*SITES, "logits"])
    with torch.no_grad():
        assert torch.equal(run.acts[Site("mlp_pre", 0)], module[0](X))
        assert torch.equal(run.logits, module(X))
        expected = module[3](torch.zeros(4, 7, 8))
    assert torch.equal(subject.run(X, write=[Zero(Site("mlp_out", 1))]).logits, expected)
    own = run.acts[Site("mlp_post", 0)]
    assert torch.equal(subject.run(X, write=[Replace(Site("mlp_post", 0), own)]).logits, run.logits)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_shapes_come_from_an_example_or_from_the_modules_themselves():
    subject = wrap(net(), sites={"layers.0.mlp_pre": "0", "layers.1.mlp_in": "2:in"})
    assert [info.width for info in subject.sites.values()] == [8, 8]
    with pytest.raises(BadInput, match="example="):
        wrap(net(), sites={"layers.0.mlp_post": "1"})
    rows = wrap(net(), sites={"layers.0.mlp_post": "1"}, example=X[0])
    assert rows.sites[Site("mlp_post", 0)].shape == ("b", 8)


def test_a_list_of_places_names_its_own_sites():
    subject = wrap(net(), sites=["0", "2:in"])
    assert [str(site) for site in subject.order] == ["module:0:out", "module:2:in"]
    assert set(subject.run(X, read=["module:0:out", "module:3:in"]).acts) == {Site("module:0:out"), Site("module:3:in")}


def test_the_order_is_that_of_the_run():
    subject = wrap(net(), sites=dict(reversed(SITES.items())), example=X)
    assert [str(site) for site in subject.order] == [*SITES, "logits"]


def test_it_stops_after_the_last_site():
    module = net()
    ran: list[int] = []
    module[3].register_forward_hook(lambda *_: ran.append(3))
    subject = wrap(module, sites={"layers.0.mlp_pre": "0"})
    assert subject.run(X, read="layers.0.mlp_pre").logits is None and not ran
    assert subject.run(X).logits is not None and ran


def test_gradients_flow_without_trainable_parameters_and_leave_the_input_alone():
    module = net().requires_grad_(False)
    subject = wrap(module, sites=SITES, example=X)
    run = subject.run(X, read=["layers.0.mlp_pre", "logits"], grad=True)
    (gradient,) = torch.autograd.grad(run.logits.sum(), [run.acts[Site("mlp_pre", 0)]])
    assert gradient.abs().sum() > 0 and not X.requires_grad


def test_ids_pixels_and_vectors_are_passed_through():
    embedding = wrap(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9)), sites={"embed": "0"})
    assert embedding.run(torch.tensor([[1, 2]]), read="embed").acts[Site("embed")].shape == (1, 2, 4)
    assert embedding.prepare(torch.tensor([[1]])).ids is not None
    picture = wrap(nn.Conv2d(3, 2, 3), sites=[], example=torch.randn(1, 3, 5, 5))
    assert picture.run(torch.randn(2, 3, 5, 5)).logits.shape == (2, 2, 3, 3)
    assert picture.prepare(torch.randn(1, 3, 5, 5)).pixels is not None
    assert embedding.pieces([4]) == ["<4>"]


def test_changes_share_what_they_do_not_touch():
    module = net()
    subject = wrap(module, sites=SITES, example=X)
    before = subject.run(X).logits
    changed = subject.changed(Change((Scale(Site("mlp_post", 0), 0.5),), {"3.bias": Delta(torch.ones(3))}))
    expected = subject.run(X, write=[Scale(Site("mlp_post", 0), 0.5)]).logits + 1
    torch.testing.assert_close(changed.run(X).logits, expected)
    assert torch.equal(subject.run(X).logits, before)
    assert changed.weights()["0.weight"].data_ptr() == module[0].weight.data_ptr()
    assert changed.fingerprint != subject.fingerprint


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = nn.Linear(5, 5)

    def forward(self, x):
        return self.step(self.step(x))


def test_a_module_that_runs_twice_is_no_one_site():
    with pytest.raises(BadInput, match="more than once"):
        wrap(Twice(), sites={"layers.0.mlp_out": "step"}, example=X)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("text", "Encode it first"),
        (["text"], "Encode it first"),
        (["<1>", "<1> <2>"], "Encode it first"),
        ([], "Encode it first"),
    ],
)
def test_text_is_refused(raw, says: str):
    with pytest.raises(BadInput, match=says):
        wrap(net(), sites=["0"]).prepare(raw)


def test_ids_are_read_as_they_are_written():
    subject = wrap(nn.Embedding(30, 4), sites={"embed": ""})
    inputs = subject.prepare(["<17><3>", "<5>"])
    assert inputs.ids.tolist() == [[17, 3], [5, 0]] and inputs.mask.tolist() == [[True, True], [True, False]]
    assert inputs.offsets.tolist() == [[[0, 4], [4, 7]], [[0, 3], [0, 0]]]
    assert subject.prepare(["".join(subject.pieces([4, 20, 4]))]).ids.tolist() == [[4, 20, 4]]


def test_what_cannot_be_is_refused():
    with pytest.raises(UnknownSite, match="lacks"):
        wrap(net(), sites={"layers.0.mlp_out": "9"})
    with pytest.raises(BadInput, match="no place"):
        wrap(net(), sites={"layers.0.mlp_out": "0:middle"})
    subject = wrap(net(), sites=["0"])
    with pytest.raises(BadInput, match="cache"):
        subject.run(X, cache=True)
    with pytest.raises(BadInput, match="one of ids"):
        subject.run(Inputs())
