"""The same tokens however they are run; what is read and written while decoding is what one run of everything has."""

import math

import pytest
import torch
from tests.subjects._families import FAMILIES as EVERY
from tests.subjects._families import made
from tests.subjects._other_families import made as made_other
from torch import nn

import actscope as act
from actscope.core.change import Change
from actscope.core.errors import BadInput, NotFinite, UnknownSite
from actscope.core.inputs import Inputs
from actscope.core.intervention import Add, At, Context, Mean, Replace, Scale
from actscope.core.site import Site
from actscope.subjects.engine import Generated, Stream, generate
from actscope.subjects.hf import HFSubject
from actscope.subjects.load import load

FAMILIES = ("llama", "mistral", "gemma3_text", "gpt2", "opt", "pocket-mini")
PROMPTS = [[5, 9, 17, 3], [8], [41, 2, 7, 7, 30, 12, 4, 11, 60], [22, 6, 90, 14, 3, 3, 1]]
RESID, PATTERN, HEAD = Site("resid_post", 1), Site("attn_pattern", 1), Site("z", 2, 1)


def close(a: torch.Tensor, b: torch.Tensor, most: float = 1e-5) -> bool:
    return a.shape == b.shape and bool((a - b).norm() <= most * b.norm().clamp(min=1e-6))


@pytest.fixture(scope="module", params=FAMILIES)
def subject(request) -> HFSubject:
    return load("pocket-mini") if request.param == "pocket-mini" else HFSubject(made(request.param), None, request.param)


@pytest.fixture(scope="module")
def small() -> HFSubject:
    return HFSubject(made("llama"), None, "llama")


@pytest.fixture(scope="module")
def mini() -> HFSubject:
    return load("pocket-mini")


def padded(rows: list[list[int]], side: str, extra: int = 0) -> Inputs:
    width = max(map(len, rows)) + extra
    ids, mask = torch.full((len(rows), width), 1), torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        at = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[index, at], mask[index, at] = torch.tensor(row), True
    return Inputs(ids=ids, mask=mask)


def same(a: Generated, b: Generated) -> None:
    assert [row.tolist() for row in a.ids] == [row.tolist() for row in b.ids]
    assert a.stopped == b.stopped and a.text == b.text
    for x, y in zip(a.logprobs, b.logprobs, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def by_hand(subject: HFSubject, prompt: list[int], tokens: int) -> tuple[list[int], torch.Tensor]:
    """Greedy, one row, one full run of the untouched model a token: (ids, logits of each)."""
    ids, found = list(prompt), []
    for _ in range(tokens):
        with torch.no_grad():
            found.append(subject.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1])
        ids.append(int(found[-1].argmax()))
    return ids[len(prompt) :], torch.stack(found)


def test_the_same_tokens_in_every_combination(subject):
    """cache or not, alone or together, padded left, right, or more than needed; and the logits of the model itself."""
    tokens = 8
    settings = {"tokens": tokens, "ends": False, "read": "logits", "read_where": "both"}
    expected = [by_hand(subject, prompt, tokens) for prompt in PROMPTS]
    for cache in (True, False):
        given: list = [
            PROMPTS,
            padded(PROMPTS, "left"),
            padded(PROMPTS, "right"),
            padded(PROMPTS, "right", 3),
            padded(PROMPTS, "left", 2),
        ]
        runs = [generate(subject, each, cache=cache, **settings) for each in given]
        runs.append(_together([generate(subject, [prompt], cache=cache, **settings) for prompt in PROMPTS]))
        for run in runs:
            for row, (ids, logits) in enumerate(expected):
                assert run.ids[row].tolist() == ids
                assert close(run.acts[row][Site("logits")][len(PROMPTS[row]) - 1 : -1], logits)
                own = logits.log_softmax(-1)[torch.arange(tokens), torch.tensor(ids)]
                torch.testing.assert_close(run.logprobs[row], own, rtol=1e-4, atol=1e-4)


def _together(runs: list[Generated]) -> Generated:
    fields = {name: tuple(getattr(run, name)[0] for run in runs) for name in ("prompts", "ids", "text", "logprobs", "stopped")}
    return Generated(**fields, acts=tuple(run.acts[0] for run in runs))


def test_a_drawn_row_is_the_same_alone_and_in_a_batch(subject):
    settings = {"tokens": 12, "temperature": 1.3, "top_k": 200, "top_p": 0.95, "seed": 3}
    batch = generate(subject, PROMPTS, **settings)
    same(batch, _together([generate(subject, [prompt], **settings) for prompt in PROMPTS]))
    same(batch, generate(subject, padded(PROMPTS, "right"), cache=False, **settings))
    other = generate(subject, PROMPTS, **{**settings, "seed": 4})
    assert [row.tolist() for row in other.ids] != [row.tolist() for row in batch.ids]
    short = generate(subject, PROMPTS, **{**settings, "tokens": 5})
    assert all(row.tolist() == long[: len(row)].tolist() for row, long in zip(short.ids, batch.ids, strict=True))


def test_equal_prompts_are_drawn_apart(small):
    rows = generate(small, [[5, 9]] * 3, tokens=8, temperature=1.0, ends=False).ids
    assert len({tuple(row.tolist()) for row in rows}) == 3
    assert len({tuple(row.tolist()) for row in generate(small, [[5, 9]] * 3, tokens=8, ends=False).ids}) == 1


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("where", ["prompt", "generated", "both"])
def test_what_is_read_is_what_one_run_of_it_all_has(subject, where, cache):
    sites = [RESID, PATTERN, HEAD] if RESID in subject.sites else []
    found = generate(subject, PROMPTS, tokens=6, ends=False, read=sites, read_where=where, cache=cache)
    for prompt, ids, acts in zip(found.prompts, found.ids, found.acts, strict=True):
        whole = subject.run(torch.cat([prompt, ids])[None], read=sites).acts
        rows = {"prompt": slice(0, len(prompt)), "generated": slice(len(prompt), None), "both": slice(None)}[where]
        assert set(acts) == set(sites)
        for site in sites:
            if site == PATTERN:
                keys = len(prompt) if where == "prompt" else None
                assert close(acts[site], whole[site][0][:, rows, :keys])
            else:
                assert close(acts[site], whole[site][0][rows])


def value(subject: HFSubject, scale: float = 3.0) -> torch.Tensor:
    width = int(subject.sites[RESID].shape[-1])
    return scale * torch.randn(width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("where", ["prompt", "generated", "both"])
def test_what_is_written_stands_as_in_one_run_of_it_all(subject, where):
    """With a cache as without; and as one run of the final sequence with the write at those positions only."""
    write = [Add(RESID, value(subject))]
    settings = {"tokens": 8, "ends": False, "write_where": where, "read": [RESID, "logits"]}
    found = generate(subject, PROMPTS, write=write, **settings)
    again = generate(subject, PROMPTS, write=write, cache=False, **settings)
    same(found, again)
    for row, (prompt, ids) in enumerate(zip(found.prompts, found.ids, strict=True)):
        ids_all = torch.cat([prompt, ids])[None]
        written = torch.arange(ids_all.shape[1])[None] < len(prompt)
        at = {"prompt": written, "generated": ~written, "both": written | True}[where]
        whole = subject.run(ids_all, read=[RESID, "logits"], write=[At(write[0], at)]).acts
        for site in (RESID, Site("logits")):
            assert close(found.acts[row][site], whole[site][0]) and close(again.acts[row][site], whole[site][0])
        assert whole[Site("logits")][0, len(prompt) - 1 : -1].argmax(-1).tolist() == ids.tolist()


def test_where_something_is_written_matters(small):
    """Control of the test above: nothing written, and written elsewhere, give other tokens."""
    runs = [generate(small, PROMPTS, tokens=8, ends=False)]
    for where in ("prompt", "generated", "both"):
        runs.append(generate(small, PROMPTS, tokens=8, ends=False, write=[Add(RESID, value(small))], write_where=where))
    seen = {tuple(tuple(row.tolist()) for row in run.ids) for run in runs}
    assert len(seen) == 4
    assert all(a[0] == b[0] for a, b in zip(runs[0].ids, runs[2].ids, strict=True)), "the first token comes from the prompt"


class Last:
    """Doubles x where a token is even, by step; sees what it is called with."""

    reads = (Site("resid_pre", 1),)

    def __init__(self, site: Site):
        self.site, self.calls = site, []

    def __call__(self, x: torch.Tensor, context: Context) -> torch.Tensor:
        assert context.inputs.ids is not None
        self.calls.append((context.step, tuple(x.shape), context.positions[context.mask].tolist(), context.inputs.ids.tolist()))
        even = (context.inputs.ids % 2 == 0).view(*context.inputs.ids.shape, *[1] * (x.dim() - 2))
        return torch.where(even, x * (1 + context.step), x + context.seen[self.reads[0]].mean())


@pytest.mark.parametrize("cache", [True, False])
def test_an_intervention_sees_all_rows_and_its_step(small, cache):
    """Rows of a value stay theirs where other rows have ended."""
    plain = generate(small, PROMPTS, tokens=6, ends=False)
    stop = [int(plain.ids[1][1])]
    rows = torch.randn(4, 1, 32, generator=torch.Generator().manual_seed(2))
    own = generate(small, PROMPTS, tokens=6, ends=False, write=[Add(RESID, 0.5 * rows)], stop=stop, cache=cache)
    for index, prompt in enumerate(PROMPTS):
        alone = generate(small, [prompt], tokens=6, ends=False, write=[Add(RESID, 0.5 * rows[index])], stop=stop)
        assert alone.ids[0].tolist() == own.ids[index].tolist()
    assert len(set(own.stopped)) == 2, "some rows end early, which is the point"


def test_calls_are_the_same_with_and_without_a_cache(small):
    seen = []
    for cache in (True, False):
        watcher = Last(Site("mlp_out", 1))
        found = generate(small, PROMPTS, tokens=4, ends=False, write=[watcher], cache=cache)
        unique = {call[0]: call for call in watcher.calls}
        seen.append((list(unique.values()), [row.tolist() for row in found.ids]))
    assert seen[0] == seen[1]
    assert [call[0] for call in seen[0][0]] == [0, 1, 2, 3]
    assert seen[0][0][1][2] == [len(prompt) for prompt in PROMPTS]


@pytest.mark.parametrize(
    "site", [PATTERN, Site("attn_scores", 1), Site("attn_pattern", 1, 2), Site("k", 1), Site("v", 0, 1), HEAD]
)
@pytest.mark.parametrize("where", ["prompt", "generated", "both"])
def test_inside_attention_too(small, site, where):
    write = [Scale(site, 0.3)]
    settings = {"tokens": 6, "ends": False, "write_where": where, "read": [RESID, site]}
    found, again = (generate(small, PROMPTS, write=write, cache=cache, **settings) for cache in (True, False))
    same(found, again)
    plain = generate(small, PROMPTS, tokens=6, ends=False, read=[RESID])
    assert any(not close(a[RESID], b[RESID], 1e-3) for a, b in zip(found.acts, plain.acts, strict=True))
    for a, b in zip(found.acts, again.acts, strict=True):
        assert close(a[RESID], b[RESID]) and close(a[site], b[site])


def test_a_mask_of_positions_lies_as_the_prompts_were_given(small):
    inputs = padded(PROMPTS, "right")
    assert inputs.ids is not None
    where = torch.zeros_like(inputs.ids, dtype=torch.bool)
    where[2, 4] = where[3, 6] = True
    write = [At(Replace(RESID, value(small)), where)]
    settings = {"tokens": 6, "ends": False, "write": write, "write_where": "prompt"}
    found = generate(small, inputs, **settings)
    same(found, generate(small, inputs, cache=False, **settings))
    plain = generate(small, inputs, tokens=6, ends=False)
    changed = [a.tolist() != b.tolist() for a, b in zip(found.ids, plain.ids, strict=True)]
    assert changed[:2] == [False, False] and any(changed[2:])


def test_an_intervention_over_rows(small):
    write = [Mean(Site("mlp_out", 0))]
    found = generate(small, PROMPTS, tokens=6, ends=False, write=write)
    same(found, generate(small, PROMPTS, tokens=6, ends=False, write=write, cache=False))


def test_the_shortest_path_is_the_same_and_leaves_nothing_behind(small):
    """What draws from a run may do without hooks, autograd and logits nobody uses; later runs with gradients are as ever."""
    before = small.run(torch.tensor([PROMPTS[0]]), read=[RESID], grad=True).acts[RESID]
    quick = generate(small, PROMPTS, tokens=6, ends=False)
    same(quick, generate(small, PROMPTS, tokens=6, ends=False, read=[RESID]))
    after = small.run(torch.tensor([PROMPTS[0]]), read=[RESID, "logits"], grad=True).acts
    assert torch.equal(after[RESID], before)
    after[Site("logits")].sum().backward()
    assert not any(tensor.is_inference() for tensor in small.model.state_dict().values())
    assert not any(row.is_inference() for row in (*quick.ids, *quick.logprobs))


def test_a_changed_subject_generates(small):
    write = Add(RESID, value(small))
    changed = small.changed(Change((write,), origin="push"))
    same(generate(changed, PROMPTS, tokens=8), generate(small, PROMPTS, tokens=8, write=[write]))
    same(generate(changed, PROMPTS, tokens=8), generate(changed, PROMPTS, tokens=8, cache=False))


def test_tokens_as_they_come_are_the_tokens_of_the_batch(mini):
    prompts, settings = ["def f(x):", "The", "for i in"], {"tokens": 20, "temperature": 0.9, "seed": 5}
    whole = generate(mini, prompts, **settings)
    coming = Stream(mini, prompts, **settings)
    first = next(iter(coming))
    assert first.row == 0 and first.id == whole.ids[0][0]
    rest = [first, *coming]
    for row in range(3):
        own = [token for token in rest if token.row == row]
        assert [token.id for token in own] == whole.ids[row].tolist()
        assert "".join(token.text for token in own) == whole.text[row]
        assert [token.stopped for token in own] == [""] * (len(own) - 1) + [whole.stopped[row]]
    same(coming.finish(), whole)


def counted(subject: HFSubject) -> list[tuple[int, int]]:
    """[b t] of every run from now on."""
    seen: list[tuple[int, int]] = []
    subject.model.base_model.register_forward_pre_hook(
        lambda _m, _a, given: seen.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    return seen


@pytest.mark.full
@pytest.mark.parametrize("name", [*EVERY, "mamba"])
def test_every_family_generates(name):
    """cache or not, alone or together, read or not; written where tokens are generated."""
    subject = HFSubject(made_other(name) if name == "mamba" else made(name), None, name)
    settings = {"tokens": 6, "ends": False}
    found = generate(subject, PROMPTS, **settings)
    same(found, generate(subject, padded(PROMPTS, "right"), cache=False, **settings))
    same(found, _together([generate(subject, [prompt], **settings) for prompt in PROMPTS]))
    (site,) = (site for site in subject.sites if site.kind == "resid_post" and site.layer == 1)
    read = generate(subject, PROMPTS, read=[site], **settings)
    same(found, read)
    for prompt, ids, acts in zip(read.prompts, read.ids, read.acts, strict=True):
        assert close(acts[site], subject.run(torch.cat([prompt, ids])[None], read=[site]).acts[site][0])
    settings |= {"write": [Scale(site, -1.0)], "write_where": "generated"}
    same(generate(subject, PROMPTS, **settings), generate(subject, PROMPTS, cache=False, **settings))


def test_experts_say_which_tokens_they_saw():
    subject = HFSubject(made("mixtral"), None, "mixtral")
    site = Site("expert_out", 1, 2)
    found = generate(subject, PROMPTS, tokens=6, ends=False, read=[site])
    for prompt, ids, acts, valid in zip(found.prompts, found.ids, found.acts, found.valid, strict=True):
        run = subject.run(torch.cat([prompt, ids])[None], read=[site])
        assert torch.equal(valid[site], run.valid[site][0])
        assert close(acts[site][valid[site]], run.acts[site][0][valid[site]])
    assert any(valid[site].any() for valid in found.valid)


def test_rows_that_have_ended_are_not_run_on():
    subject = HFSubject(made("llama"), None, "llama")
    plain = generate(subject, PROMPTS, tokens=10, ends=False)
    stop = [int(plain.ids[0][2]), int(plain.ids[2][5])]
    seen = counted(subject)
    found = generate(subject, PROMPTS, tokens=10, ends=False, stop=stop)
    lengths = [len(row) for row in found.ids]
    assert min(lengths) < 10 and [row.tolist() for row in found.ids] == [
        row[:n].tolist() for row, n in zip(plain.ids, lengths, strict=True)
    ]
    assert found.stopped == tuple(
        "stop" if n < 10 or int(row[-1]) in stop else "tokens" for n, row in zip(lengths, found.ids, strict=True)
    )
    assert seen[0] == (4, 9)
    assert sum(b for b, _ in seen[1:]) == sum(n - 1 for n in lengths), "the last token of a row is not run"
    seen.clear()
    read = generate(subject, PROMPTS, tokens=10, ends=False, stop=stop, read=[RESID], read_where="generated")
    assert sum(b for b, _ in seen[1:]) == sum(lengths), "unless its activations are asked for"
    assert [len(acts[RESID]) for acts in read.acts] == lengths
    same(read, found)


def test_strings_end_a_row_and_are_cut_off(mini):
    plain = generate(mini, ["def f(x):", "The"], tokens=24)
    stop = plain.text[0][5:8]
    found = generate(mini, ["def f(x):", "The"], tokens=24, stop=[stop])
    assert found.stopped[0] == "stop" and found.text[0] == plain.text[0][: plain.text[0].index(stop)]
    assert stop in plain.text[0] and len(found.ids[0]) < 24
    pieces = "".join(token.text for token in Stream(mini, ["def f(x):"], tokens=24, stop=[stop]))
    assert pieces.startswith(found.text[0])


def test_the_models_own_end(mini):
    (end,) = mini.ends
    bias = torch.zeros(mini.sites[Site("logits")].shape[-1])
    bias[end] = 1e3
    push = [Add(Site("logits"), bias)]
    found = generate(mini, ["The", "A longer prompt"], tokens=5, write=push)
    assert found.stopped == ("end", "end") and found.text == ("", "") and found.ids[0].tolist() == [end]
    assert generate(mini, ["The"], tokens=5, write=push, ends=False).ids[0].tolist() == [end] * 5


def test_the_context_ends_a_row(small):
    prompts = [list(range(1, 41)), list(range(1, 47)), [3, 4]]
    for cache in (True, False):
        found = generate(small, prompts, tokens=10, ends=False, cache=cache, read=[RESID])
        assert [len(row) for row in found.ids] == [8, 2, 10] and found.stopped == ("context", "context", "tokens")
        assert found.acts[0][RESID].shape == (48, 32)
    with pytest.raises(BadInput, match="Prompt 1 has 48 tokens, which leaves no room to generate: llama takes at most 48"):
        generate(small, [[1], list(range(48))])


def test_an_empty_prompt_begins_where_texts_begin(mini, small):
    assert mini.begins is not None
    same(generate(mini, ["", "The"], tokens=6), generate(mini, [[mini.begins], mini.prepare("The").ids[0].tolist()], tokens=6))
    assert generate(small, [[]], tokens=2).prompts[0].tolist() == [0]
    subject = HFSubject(made("gpt2"), None, "gpt2")
    subject.model.config.bos_token_id = None
    with pytest.raises(BadInput, match="Prompt 1 is empty, and gpt2 has no token that begins a text"):
        generate(subject, [[4], []])


class Net(nn.Module):
    """Causal: each position sees the mean of what came."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.out = nn.Embedding(30, 12), nn.Linear(12, 12), nn.Linear(12, 30)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        x = x.cumsum(1) / torch.arange(1, ids.shape[1] + 1)[:, None] + x
        return self.out(torch.tanh(self.mix(x)))


@pytest.mark.parametrize("example", [None, torch.tensor([[1, 2]])])
def test_any_causal_module_generates(example):
    site, prompts = Site("mlp_out", 0), [[3, 4, 5], [7], [9, 9]]
    subject = act.wrap(Net().requires_grad_(False), sites={"layers.0.mlp_out": "mix:out"}, name="net", example=example)
    write = [Scale(site, -2.0)]
    found = generate(subject, prompts, tokens=6, read=[site], write=write, write_where="generated", temperature=1.0)
    for prompt, ids, acts in zip(prompts, found.ids, found.acts, strict=True):
        whole = torch.tensor([[*prompt, *ids.tolist()]])
        where = torch.arange(whole.shape[1])[None] >= len(prompt)
        assert close(acts[site], subject.run(whole, read=[site], write=[At(write[0], where)]).acts[site][0])
    same(
        _together(
            [generate(subject, [prompt], tokens=6, write=write, write_where="generated", temperature=1.0) for prompt in prompts]
        ),
        found,
    )
    with pytest.raises(BadInput, match="net has no cache"):
        generate(subject, prompts, cache=True)


def test_what_is_not_finite_is_named(small):
    bias = torch.zeros(300)
    bias[7] = math.nan
    with pytest.raises(NotFinite, match="The logits for token 1 of row 0 hold NaN"):
        generate(small, PROMPTS, write=[Add(Site("logits"), bias)])
    rows = torch.zeros(4, 1, 300)
    rows[2] = math.inf
    with pytest.raises(NotFinite, match="The logits for token 2 of row 2 hold NaN or infinity"):
        generate(small, PROMPTS, write=[Add(Site("logits"), rows)], write_where="generated", temperature=1.0, ends=False)


@pytest.mark.parametrize(
    ("given", "settings", "says"),
    [
        ([], {}, "No prompt given; expected a text or several"),
        ([[1], "a"], {}, "A list of list, str given"),
        (torch.ones(3), {}, r"shape \(3,\), torch.float32; expected whole numbers"),
        ("hello", {}, "llama has no tokenizer"),
        (Inputs(embeds=torch.zeros(1, 2, 32)), {}, "Inputs with embeds given to continue"),
        (Inputs(ids=torch.ones(1, 3).long(), mask=torch.tensor([[True, False, True]])), {}, "mask of prompt 0 has a hole"),
        (Inputs(ids=torch.ones(1, 3).long(), mask=torch.zeros(1, 3).bool()), {}, "Prompt 0 is all padding"),
        ([[1]], {"tokens": 0}, "tokens=0; expected"),
        ([[1]], {"stop": [""]}, "stop=''; expected"),
        ([[1]], {"stop": [4000]}, "stop=4000 is no token of llama, which has ids 0 to 299"),
        ([[1]], {"temperature": -2.0}, "temperature=-2.0"),
        ([[400]], {}, "Token ids 400 to 400 given"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(small, given, settings, says):
    with pytest.raises(BadInput, match=says):
        generate(small, given, **settings)


def test_an_unknown_site_is_said_before_anything_runs(small):
    for settings in (
        {"read": ["layers.1.resid_pots"]},
        {"write": [Scale(Site("mlp_out", 9), 2.0)], "write_where": "generated"},
    ):
        with pytest.raises(UnknownSite):
            generate(small, [[1]], tokens=1, **settings)
