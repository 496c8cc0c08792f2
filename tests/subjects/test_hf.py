import torch

from actscope.core.intervention import Replace, Zero
from actscope.core.site import Site
from actscope.subjects.hf import HFSubject


def ids(b: int = 2, t: int = 9) -> torch.Tensor:
    return torch.randint(0, 300, (b, t), generator=torch.Generator().manual_seed(1))


def test_a_run_is_the_model_itself(model):
    with torch.no_grad():
        assert torch.equal(HFSubject(model).run(ids()).logits, model(ids()).logits)


def test_own_value_back_changes_nothing_and_zero_does(model):
    subject = HFSubject(model)
    plain = subject.run(ids()).logits
    for site in subject.order:
        own = subject.run(ids(), read=site).acts[site]
        back = subject.run(ids(), read="logits", write=[Replace(site, own)]).logits
        assert (back - plain).norm() <= 1e-5 * plain.norm(), site
        if site.kind != Site("logits").kind:
            assert not torch.equal(subject.run(ids(), write=[Zero(site)]).logits, plain), site
