"""A subject's weights in the training loop: language models, targets that do not count, subjects that cannot be trained."""

import pytest
import torch

import actscope as act
from actscope.adaptation._parts.tuning import IGNORED, Tuning
from actscope.core.change import Change
from actscope.core.errors import BadInput
from actscope.core.intervention import Scale
from actscope.core.site import Site


@pytest.fixture(scope="module")
def subject():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from actscope.subjects.hf import HFSubject

    config = GPTNeoXConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return HFSubject(GPTNeoXForCausalLM(config).requires_grad_(False), None, "small")


def test_the_loss_is_that_of_the_targets_that_count_in_the_presence_of_what_stands(subject):
    standing = (Scale(Site("mlp_out", 1), 0.5),)
    ids = torch.randint(20, (3, 8), generator=torch.Generator().manual_seed(1))
    targets = ids.roll(-1, 1)
    targets[:, -1] = IGNORED
    targets[0] = IGNORED
    loss = Tuning(subject, {}, standing).objective((ids, targets), progress=0.0)["loss"]
    said = subject.changed(Change(standing)).run(ids).logits.log_softmax(-1)
    each = said[1:, :-1].gather(2, ids[1:, 1:, None])
    torch.testing.assert_close(loss.detach(), -each.mean())


def test_gradients_reach_every_weight_and_none_of_the_subjects_own(subject):
    tuning = Tuning(subject, {})
    ids = torch.randint(20, (3, 8), generator=torch.Generator().manual_seed(1))
    tuning.objective((ids, ids.roll(-1, 1)), progress=0.0)["loss"].backward()
    assert all(parameter.grad is not None for parameter in tuning.parameters())
    assert all(parameter.grad is None for parameter in subject.model.parameters())
    assert tuning.change("nothing").weights == {}
    with torch.no_grad():
        tuning.model.lm_head.weight[3] += 1
    (name,) = tuning.change("one").weights
    assert name == "lm_head.weight"


def test_a_subject_without_logits_is_refused():
    bare = act.wrap(torch.nn.Sequential(torch.nn.Linear(3, 2)), sites={"layers.0.mlp_out": "0"})
    with pytest.raises(BadInput, match="no logits, or no torch module"):
        Tuning(bare, {})
