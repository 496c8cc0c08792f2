"""cross_entropy against runs made by hand, on a small random model reading text that it wrote itself."""

import pytest
import torch
from fakes import Rows, constant, perfect

from actscope.core.errors import BadInput, UnknownMethod, UnknownSite, WrongSubject
from actscope.core.inputs import SPECIAL, TEXT, Inputs, predicted_text
from actscope.core.intervention import At, Zero
from actscope.core.site import Port, Site
from actscope.scores._all import score
from actscope.scores.dictionary.cross_entropy import cross_entropy
from actscope.scores.dictionary.kl_divergence import kl_divergence
from actscope.subjects.hf import HFSubject

WIDTH, CONTEXT = 24, 20
MIDDLE, OUT, IN = "layers.0.resid_post", "layers.1.mlp_out", "layers.1.mlp_in"


@pytest.fixture(scope="module")
def subject() -> HFSubject:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=50, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = GPTNeoXForCausalLM(config)
        for name, parameter in model.named_parameters():
            torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name and "weight" in name else 0.0, std=0.5)
    return HFSubject(model, None, "small")


@pytest.fixture(scope="module")
def text(subject) -> Inputs:
    """40 sequences sampled from the model, so that what it computes matters; BOS first, right padding on some."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.zeros(40, 1, dtype=torch.long)
    with torch.no_grad():
        for _ in range(CONTEXT - 1):
            chances = subject.run(ids).logits[:, -1].softmax(-1)
            ids = torch.cat([ids, torch.multinomial(chances, 1, generator=generator)], dim=1)
    length = torch.where(torch.arange(40) % 3 == 0, 11, CONTEXT)
    mask = torch.arange(CONTEXT)[None] < length[:, None]
    roles = torch.full_like(ids, TEXT)
    roles[:, 0] = SPECIAL
    return Inputs(ids=ids, mask=mask, roles=roles)


def stored(subject: HFSubject, text: Inputs, size: int = 40, sites: tuple[str, ...] = (MIDDLE, OUT, IN)) -> Rows:
    """A store of the text's tokens as capture would make it."""
    with torch.no_grad():
        run = subject.run(text, read=sites)
    real = text.mask & (text.roles == TEXT)
    store = Rows({name: run.acts[Site.parse(name)][real] for name in sites})
    store.where = real.nonzero()
    store.documents = {number: f"d{number}" for number in range(len(text.ids))}
    store.subjects = {"": subject.fingerprint}
    first = torch.stack([torch.arange(len(text.ids)), torch.zeros(len(text.ids), dtype=torch.long)], dim=1)
    store._sequences = [
        (Inputs(ids=text.ids[i : i + size], mask=text.mask[i : i + size], roles=text.roles[i : i + size]), first[i : i + size])
        for i in range(0, len(text.ids), size)
    ]
    return store


def by_hand(subject: HFSubject, text: Inputs, write=()) -> float:
    """Nats per token, token by token."""
    with torch.no_grad():
        logits = subject.run(text, write=write).logits.log_softmax(-1)
    total, n = 0.0, 0
    for row in range(len(text.ids)):
        for t in range(1, CONTEXT - 1):
            if text.mask[row, t + 1]:
                total -= float(logits[row, t, text.ids[row, t + 1]])
                n += 1
    return total / n


def test_a_perfect_splice_recovers_everything(subject, text):
    store = stored(subject, text)
    result = cross_entropy(perfect(WIDTH, reads=MIDDLE), subject, store)
    assert result.value == pytest.approx(1, abs=1e-5) and result.interval == pytest.approx((1, 1), abs=1e-5)
    assert result.parts["recovered_zero"] == pytest.approx(1, abs=1e-5)
    assert result.parts["clean"] == pytest.approx(by_hand(subject, text), rel=1e-5)
    assert result.n == sum(9 if row % 3 == 0 else CONTEXT - 2 for row in range(40))


def test_splicing_zeros_is_the_zero_ablation_and_splicing_the_mean_recovers_nothing(subject, text):
    store = stored(subject, text)
    zeros = cross_entropy(constant(torch.zeros(WIDTH), reads=MIDDLE), subject, store)
    assert zeros.parts["spliced"] == zeros.parts["zero"] and zeros.parts["recovered_zero"] == 0
    mean = store.acts[Port.parse(MIDDLE)].double().mean(0).float()
    flat = cross_entropy(constant(mean, reads=MIDDLE), subject, store)
    assert flat.value == pytest.approx(0, abs=1e-6) and flat.parts["spliced"] == pytest.approx(flat.parts["mean"], rel=1e-6)
    assert flat.parts["mean"] > flat.parts["clean"] + 0.05  # the ablation bites, or the two lines above say nothing


def test_special_tokens_keep_their_values(subject, text):
    """Zeros at text tokens only: not what zeros everywhere give."""
    store = stored(subject, text)
    ours = cross_entropy(perfect(WIDTH, reads=MIDDLE), subject, store).parts["zero"]
    everywhere = by_hand(subject, text, [Zero(Site.parse(MIDDLE))])
    assert abs(ours - everywhere) > 1e-3


def test_a_transcoder_writes_where_it_writes_from_what_it_reads(subject, text):
    store = stored(subject, text)
    dictionary = constant(torch.zeros(WIDTH), reads=IN, writes=OUT)
    result = cross_entropy(dictionary, subject, store)
    assert result.parts["spliced"] == result.parts["zero"]
    lost = cross_entropy(perfect(WIDTH, reads=IN, writes=OUT), subject, store)  # the input in place of the output
    assert lost.parts["clean"] == result.parts["clean"] and lost.parts["zero"] == result.parts["zero"]
    assert lost.value < 1
    with pytest.raises(UnknownSite, match="mlp_out"):
        cross_entropy(dictionary, subject, stored(subject, text, sites=(IN,)))


def test_heads_are_spliced_too(subject, text):
    site = "layers.0.z"
    with torch.no_grad():
        z = subject.run(text, read=[site]).acts[Site.parse(site)]
    store = stored(subject, text)
    store.acts = {Port.parse(site): z[text.mask & (text.roles == TEXT)].flatten(1)}
    store.ports = {Port.parse(site): WIDTH}
    assert cross_entropy(perfect(WIDTH, reads=site), subject, store).value == pytest.approx(1, abs=1e-4)


def test_batches_do_not_change_the_mean_over_tokens(subject, text):
    dictionary = constant(torch.ones(WIDTH), reads=MIDDLE)
    whole, ragged = (cross_entropy(dictionary, subject, stored(subject, text, size)) for size in (40, 7))
    assert ragged.value == pytest.approx(whole.value, rel=1e-5)
    assert ragged.parts == pytest.approx(whole.parts, rel=1e-5)
    assert ragged.interval == pytest.approx(whole.interval, rel=1e-4)


def test_packed_documents_do_not_predict_each_other():
    ids = torch.zeros(1, 6, dtype=torch.long)
    packed = Inputs(ids=ids, document=torch.tensor([[4, 4, 4, 7, 7, 7]]), mask=torch.tensor([[1, 1, 1, 1, 1, 0]]).bool())
    assert predicted_text(packed).tolist() == [[True, True, False, True, False, False]]


def test_what_cannot_be_judged_is_refused(subject, text):
    store = stored(subject, text)
    other = perfect(WIDTH, reads=MIDDLE)
    other.subject = "0" * 64
    with pytest.raises(WrongSubject, match="dictionary"):
        cross_entropy(other, subject, store)
    store.subjects = {"": "1" * 64}
    with pytest.raises(WrongSubject, match="store"):
        cross_entropy(perfect(WIDTH, reads=MIDDLE), subject, store)


def test_a_site_that_does_not_matter_has_no_share(subject, text):
    """On text of the model's making, everything matters; on shuffled text nothing does, and the verb says so."""
    shuffled = text.ids[:, torch.randperm(CONTEXT, generator=torch.Generator().manual_seed(1))].flip(0)
    nonsense = text._replace(ids=(shuffled * 7 + 3) % 50)
    store = stored(subject, nonsense)
    dictionary = perfect(WIDTH, reads=MIDDLE)
    with pytest.raises(BadInput, match="costs nothing"):
        cross_entropy(dictionary, subject, store)
    with pytest.warns(UserWarning, match="costs nothing"):
        assert [one.name for one in score(dictionary, subject, store)] == ["fvu", "l0", "dead_share"]


def test_the_verb_gives_every_measure(subject, text):
    store = stored(subject, text)
    found = {one.name: one for one in score(perfect(WIDTH, reads=MIDDLE), subject, store)}
    assert list(found) == ["fvu", "l0", "dead_share", "cross_entropy", "kl_divergence"]
    assert found["fvu"].value < 1e-10 and found["l0"].value == pytest.approx(WIDTH, abs=0.5)


def test_predictions_kept_against_divergences_by_hand(subject, text):
    store = stored(subject, text)
    kept = kl_divergence(perfect(WIDTH, reads=MIDDLE), subject, store)
    assert kept.value == pytest.approx(1, abs=1e-5) and kept.parts["recovered_zero"] == pytest.approx(1, abs=1e-5)
    mean = store.acts[Port.parse(MIDDLE)].double().mean(0).float()
    assert kl_divergence(constant(mean, reads=MIDDLE), subject, store).value == pytest.approx(0, abs=1e-5)
    zeros = kl_divergence(constant(torch.zeros(WIDTH), reads=MIDDLE), subject, store)
    assert zeros.parts["spliced"] == zeros.parts["zero"] and zeros.parts["recovered_zero"] == 0
    place = Site.parse(MIDDLE)
    real = (text.mask & (text.roles == TEXT))[..., None]
    with torch.no_grad():
        clean = subject.run(text).logits.double().log_softmax(-1)
        moved = subject.run(text, write=[At(Zero(place), real[..., 0])]).logits.double().log_softmax(-1)
    there = predicted_text(text)
    assert zeros.parts["zero"] == pytest.approx(float((clean.exp() * (clean - moved)).sum(-1)[there].mean()), rel=1e-4)
    assert zeros.parts["zero"] > 0.01 and zeros.n == int(there.sum())


def test_a_measure_is_taken_by_name_with_what_it_needs(subject, text):
    store = stored(subject, text)
    (found,) = score(perfect(WIDTH, reads=MIDDLE), subject, store, measures=["kl_divergence"])
    assert found.definition == "kl_recovered@1"
    dictionary = perfect(WIDTH, reads=MIDDLE)
    (same,) = score(dictionary, subject, store, measures=["stability"], others=[dictionary])
    assert same.value == pytest.approx(1, abs=1e-5)
    with pytest.raises(BadInput, match="'stability' needs others"):
        score(dictionary, subject, store, measures=["stability"])
    with pytest.raises(UnknownMethod, match="kl_divergence"):
        score(dictionary, subject, store, measures=["kl_divergenc"])
