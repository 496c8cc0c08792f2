"""What one pass keeps of every latent is what all codes at once say, and has one size."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_capture import make_texts
from tiny_subject import LOGITS, OUT, D, TinySubject, Z

from actscope.core import artifact
from actscope.core.codes import Codes
from actscope.core.errors import BadInput, Interrupted, NotFinite, UnknownSite, WrongSubject
from actscope.core.latents import Latents
from actscope.core.site import Port, SiteInfo
from actscope.corpora.texts import texts
from actscope.dictionaries.topk import TopK
from actscope.ops import _native
from actscope.stores import latent_cache as module
from actscope.stores._parts.tally import MATES, Tally
from actscope.stores.capture import capture
from actscope.stores.latent_cache import latent_cache
from actscope.stores.live import live
from actscope.stores.memory import MemoryStore

M, K = 70, 6
LISTED = make_texts(60)


def dictionary(reads=OUT, m: int = M) -> TopK:
    return TopK(reads={reads: D}, n_latents=m, k=K, seed=1).eval()


@pytest.fixture(scope="module")
def store():
    return capture(TinySubject(), texts(LISTED), [OUT])


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 128)


@pytest.fixture(scope="module")
def dense(store):
    """The value of every latent on every row."""
    with torch.no_grad():
        return dictionary().encode(store.rows(torch.arange(len(store)), [OUT]).acts).dense()


def same(one: Latents, other: Latents, *, but: tuple[str, ...] = ()) -> None:
    tensors: tuple[dict, dict] = ({}, {})
    packed = [artifact.pack(value, into) for value, into in zip((one, other), tensors, strict=True)]
    for name in but:
        packed = [{**value, name: None} for value in packed]  # type: ignore[dict-item]
    assert packed[0] == packed[1]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_counts_and_top_examples_are_those_of_all_codes(store, dense):
    found = latent_cache(dictionary(), store, top=9)
    assert found.rows == len(store) and torch.equal(found.fired, (dense > 0).sum(0))
    torch.testing.assert_close(found.total, dense.double().sum(0))
    torch.testing.assert_close(found.density, (dense > 0).float().mean(0))
    where = store.text[1]
    for latent in range(M):
        rows = dense[:, latent].sort(descending=True, stable=True).indices[:9]
        rows = rows[dense[rows, latent] > 0]
        mine = found.top.of(latent)
        assert (
            torch.equal(mine.row, rows)
            and torch.equal(mine.value, dense[rows, latent])
            and torch.equal(mine.where, where[rows])
        )
        edges, counts = found.counts(latent)
        value = dense[:, latent][dense[:, latent] > 0]
        assert torch.equal(torch.histogram(value.double(), edges.double()).hist.long(), counts.long())


def test_of_one_document_no_more_than_asked_for(store, dense):
    found = latent_cache(dictionary(), store, top=7, per_document=2)
    document = store.text[1][:, 0].tolist()
    for latent in range(M):
        wanted, seen = [], {}
        for row in dense[:, latent].sort(descending=True, stable=True).indices.tolist():
            if dense[row, latent] > 0 and len(wanted) < 7 and seen.get(document[row], 0) < 2:
                wanted.append(row)
                seen[document[row]] = seen.get(document[row], 0) + 1
        assert found.top.of(latent).row.tolist() == wanted


def test_the_sample_is_of_firings_and_changes_with_the_seed_alone(store, dense):
    found, again, other = (latent_cache(dictionary(), store, sample=8, seed=seed) for seed in (0, 0, 1))
    same(found, again)
    assert not torch.equal(found.sample.row, other.sample.row) and torch.equal(found.top.row, other.top.row)
    for latent in range(M):
        mine, fired = found.sample.of(latent), int((dense[:, latent] > 0).sum())
        assert len(mine) == min(8, fired) == len(set(mine.row.tolist()))
        assert torch.equal(mine.value, dense[mine.row, latent]) and (mine.value > 0).all()
        assert torch.equal(found.random(latent, 3).row, mine.row[:3])
        if fired:
            ends = found.quantiles(latent, [0.0, 1.0]).value
            assert (float(ends[0]), float(ends[1])) == (float(mine.value.min()), float(mine.value.max()))
    with pytest.raises(BadInput, match="larger sample"):
        found.random(0, 9)


def test_every_firing_is_drawn_as_often_as_any_other():
    """A latent that fires on 40 rows, 5 drawn: over 1,000 seeds each row is among them 125 times, give or take 4.5 sd."""
    ends, index, value = torch.arange(41), torch.zeros(40, dtype=torch.long), torch.rand(40) + 0.1
    times = torch.zeros(40)
    for seed in range(1000):
        tally = Tally(1, top=1, sample=5, most=0, seed=seed)
        tally.add(Codes(ends, index, value, 1), torch.arange(40), torch.zeros(40, 2, dtype=torch.long))
        times[tally.sample.row[0]] += 1
    sd = (1000 * 1 / 8 * 7 / 8) ** 0.5
    assert (times - 125).abs().max() < 4.5 * sd


@given(
    n=st.integers(1, 60), m=st.integers(1, 12), cut=st.integers(1, 60), most=st.integers(0, 2), kernels=st.booleans(),
    values=st.sampled_from([2, 1000]), seed=st.integers(0, 10**6),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_neither_pieces_nor_ties_nor_the_compiler_change_anything(n, m, cut, most, kernels, values, seed):
    """Codes with many equal values, at once and in pieces, negative ones among them."""
    draw = torch.Generator().manual_seed(seed)
    full = torch.randint(-1, values, (n, m), generator=draw) / 8
    where = torch.stack([torch.arange(n) // 7, torch.arange(n) % 7], 1)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for size in (n, cut):
            tally = Tally(m, top=3, sample=4, most=most, seed=seed)
            for part in torch.arange(n).split(size):
                tally.add(Codes.from_dense(full[part]), part, where[part])
            examples = [x for table in (tally.top, tally.sample) for x in vars(table.examples()).values()]
            found.append([*examples, *tally.together(3), tally.fired, tally.total, tally.histogram])
            if not kernels:
                patch.setattr(_native, "available", lambda: False)
            patch.setattr("actscope.stores._parts.tally.ENTRIES", 5)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_the_size_of_a_batch_changes_no_byte(store, monkeypatch):
    """Codes of topk are exact, so how rows are cut decides nothing."""
    one = latent_cache(dictionary(), store, per_document=3)
    monkeypatch.setattr(module, "ROWS", 1000)
    same(one, latent_cache(dictionary(), store, per_document=3))


def test_who_fires_together_is_what_all_codes_say(store, dense):
    """With a sample as large as the firings the estimate is exact."""
    found = latent_cache(dictionary(), store, sample=int((dense > 0).sum(0).max()), near=5)
    on = (dense > 0).double()
    both = on.T @ on
    jaccard = both / (on.sum(0)[:, None] + on.sum(0) - both).clamp(min=1)
    jaccard.fill_diagonal_(0)
    best = jaccard.sort(dim=1, descending=True).values[:, :5]
    torch.testing.assert_close(found.together.share.double(), best, rtol=1e-5, atol=1e-6)
    named = found.together.latent >= 0
    torch.testing.assert_close(
        jaccard.gather(1, found.together.latent.clamp(min=0))[named].float(), found.together.share[named]
    )
    rough = latent_cache(dictionary(), store, sample=32, near=5).together
    error = (jaccard.gather(1, rough.latent.clamp(min=0)).float() - rough.share)[rough.latent >= 0]
    assert error.abs().mean() < 0.05


def test_of_dense_codes_the_strongest_beside_a_firing_are_noted():
    full = torch.rand(30, 50) + 0.01
    tally = Tally(50, top=2, sample=30, most=0, seed=0)
    tally.add(Codes.from_dense(full), torch.arange(30), torch.zeros(30, 2, dtype=torch.long))
    strongest = full.topk(MATES, dim=1).indices.sort(1).values
    assert torch.equal(tally.mates.view(50, 30, MATES).long(), strongest[tally.sample.row])


def test_neighbours_are_those_of_all_cosines(store):
    made = dictionary()
    found = latent_cache(made, store, near=4).alike
    atoms = torch.nn.functional.normalize(made.atoms[Port(OUT)].detach(), dim=1)
    cosine = (atoms @ atoms.T).fill_diagonal_(-1)
    value, index = cosine.topk(4, dim=1)
    assert torch.equal(found.latent, index)
    torch.testing.assert_close(found.share, value, atol=1e-6, rtol=1e-5)


def test_only_some_documents(store, dense):
    some = [3, 4, 20, 41]
    found = latent_cache(dictionary(), store, documents=iter(some))
    rows = torch.isin(store.text[1][:, 0], torch.tensor(some))
    assert found.rows == int(rows.sum()) and torch.equal(found.fired, (dense[rows] > 0).sum(0))
    assert set(found.top.where[..., 0].unique().tolist()) <= {-1, *some}
    assert rows[found.top.row[found.top.row >= 0]].all(), "rows are those of the store"


def test_a_live_store_gives_the_same(store, monkeypatch):
    monkeypatch.setattr("actscope.stores.live.UNIT", 300)
    monkeypatch.setattr("actscope.stores.capture.UNIT", 300)
    kept = capture(TinySubject(), texts(LISTED), [OUT])
    same(
        latent_cache(dictionary(), live(TinySubject(), texts(LISTED), [OUT])), latent_cache(dictionary(), kept), but=("store",)
    )


class Telling(TinySubject):
    """Also runs to logits, of any ids, after what it was given at its one layer."""

    def __init__(self):
        super().__init__()
        self.sites[LOGITS] = SiteInfo(("b", "t", 258), "head", "out")

    def run(self, inputs, *, read=(), write=(), **rest):
        if not write:
            return super().run(inputs, read=read, **rest)
        return super().run(inputs, read=read, **rest)._replace(logits=write[0].value @ self.head)


def test_logit_effects_are_those_of_the_head(store):
    made, subject = dictionary(), Telling()
    found = latent_cache(made, store, subject=subject, tokens=3)
    atoms = made.atoms[Port(OUT)].detach()
    change = torch.nn.functional.normalize(atoms - atoms.mean(1, keepdim=True), dim=1) @ subject.head * 1e3
    change -= change.mean(1, keepdim=True)
    assert found.promoted is not None and found.suppressed is not None
    assert torch.equal(found.promoted.token, change.topk(3, dim=1).indices)
    assert torch.equal(found.suppressed.token, change.topk(3, dim=1, largest=False).indices)
    assert latent_cache(made, store).promoted is None


def test_it_is_saved_and_opened_and_a_finished_one_is_not_made_again(store, tmp_path, monkeypatch):
    found = latent_cache(dictionary(), store, out=tmp_path / "cache")
    same(found, latent_cache(dictionary(), store))
    monkeypatch.setattr(Tally, "add", None)  # nothing is read again
    opened = artifact.open(tmp_path / "cache")
    assert isinstance(opened, Latents)
    same(opened, latent_cache(dictionary(), store, out=tmp_path / "cache"))
    with pytest.raises(BadInput, match="seed is 0 there and 2 here"):
        latent_cache(dictionary(), store, seed=2, out=tmp_path / "cache")
    with pytest.raises(BadInput, match="holds other things"):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "notes.txt").touch()
        latent_cache(dictionary(), store, out=tmp_path / "other")


def test_stopped_on_request_it_goes_on_to_the_same(store, tmp_path, monkeypatch):
    asked = iter([False] * 3 + [True] + [False] * 1000)
    monkeypatch.setattr(module, "stop_requested", lambda: next(asked))
    with pytest.raises(Interrupted, match="goes on from here"):
        latent_cache(dictionary(), store, per_document=2, out=tmp_path / "cache")
    with pytest.raises(BadInput, match="not finished"):
        artifact.open(tmp_path / "cache")
    seen: list[int] = []
    found = latent_cache(
        dictionary(), store, per_document=2, out=tmp_path / "cache", progress=lambda done, *_: seen.append(done)
    )
    assert seen[0] == 5 * 128, "it began anew"
    same(found, latent_cache(dictionary(), store, per_document=2))


def test_it_refuses_what_cannot_be(store):
    with pytest.raises(UnknownSite, match=r"no layers\.0\.z; it has"):
        latent_cache(dictionary(Z), store)
    trained = dictionary()
    trained.subject = "another"
    with pytest.raises(WrongSubject, match="trained on a subject with fingerprint another"):
        latent_cache(trained, store)
    with pytest.raises(WrongSubject, match="captured from"):
        latent_cache(dictionary(), store, subject=TinySubject(seed=9))
    with pytest.raises(BadInput, match="None of the documents"):
        latent_cache(dictionary(), store, documents=[999])
    with pytest.raises(BadInput, match="top=0"):
        latent_cache(dictionary(), store, top=0)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(BadInput, match="no rows"):
        patch.setattr(MemoryStore, "__len__", lambda _: 0)
        latent_cache(dictionary(), store)
    broken = dictionary()
    with torch.no_grad():
        broken.encoder[3] = torch.nan
    with pytest.raises(NotFinite, match="NaN or infinite"):
        latent_cache(broken, store)


@pytest.mark.parametrize("length", [20_000, pytest.param(2_000_000, marks=pytest.mark.full)])
def test_memory_does_not_grow_with_rows(length):
    """Ten times the codes, and the process has not risen by what a code a row would take."""
    tally = Tally(4096, top=20, sample=64, most=0, seed=0)

    def run(rows: int, start: int) -> None:
        for first in range(start, start + rows, 2000):
            index = torch.arange(8) * 512 + torch.randint(512, (2000, 8))
            codes = Codes(torch.arange(0, 16001, 8), index.view(-1), torch.rand(16000), 4096)
            tally.add(codes, torch.arange(first, first + 2000), torch.zeros(2000, 2, dtype=torch.long))

    def resident(what: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(what)).split()[1])

    size = sum(x.numel() * x.element_size() for x in tally.state().values())
    run(length, 0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = resident("VmRSS:")
    run(10 * length, length)
    risen = resident("VmHWM:") - before
    assert risen < max(8 * 10 * length, 2**23), f"{risen:,} bytes; a code's 12 would make {8 * 12 * 10 * length:,}"
    assert size == sum(x.numel() * x.element_size() for x in tally.state().values()) < 2**27
