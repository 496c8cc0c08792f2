"""Where there is a GPU: `pytest -m gpu`. Capture, fit, encode and score give there what they give on the CPU."""

import json

import pytest
import torch
from tests.training._toys import PORT, Rows

from actscope.checks.check_dictionary import _Rows, smallest
from actscope.cli import main
from actscope.core import artifact, methods
from actscope.core.codes import Codes
from actscope.core.errors import Interrupted
from actscope.core.site import Port
from actscope.corpora.texts import texts
from actscope.dictionaries.topk import TopK
from actscope.stores.capture import capture
from actscope.subjects.load import load
from actscope.training import fit as loop
from actscope.training.fit import fit
from actscope.training.plan import Plan

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
TEXTS = [f"The {what} number {n} is told apart from every other one." for n in range(60) for what in ("house", "river", "x")]
SITE = "layers.1.mlp_in"


def sparse(n: int = 8000) -> torch.Tensor:
    atoms = torch.nn.functional.normalize(torch.randn(96, 48), dim=1)
    return ((torch.rand(n, 96) < 0.04) * (0.5 + torch.rand(n, 96))) @ atoms


def same_codes(one: Codes, other: Codes) -> None:
    """But for latents a hair apart, of which either may come last."""
    one, other = one.dense().cpu(), other.dense().cpu()
    differ = ((one - other).abs() > 1e-3 * other.abs().max()).any(1)
    assert differ.float().mean() <= 0.01, f"{float(differ.float().mean()):.1%} of the rows have other codes"


def test_capture_gives_the_rows_of_the_cpu():
    stores = [capture(load("pocket-mini", device=device), texts(TEXTS[:30]), [SITE]) for device in ("cpu", DEVICE)]
    rows = [next(store.batches([Port.parse(SITE)], 500)) for store in stores]
    assert torch.equal(rows[0].where, rows[1].where)
    torch.testing.assert_close(rows[0].acts[Port.parse(SITE)], rows[1].acts[Port.parse(SITE)], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("matmul", ["float32", "bfloat16"])
def test_a_fit_leaves_as_much_unexplained_as_on_the_cpu(matmul):
    x, left = sparse(), {}
    for device in ("cpu", DEVICE):
        made = TopK(reads={PORT: 48}, n_latents=192, k=6)
        fit(made, Rows({PORT: x}), Plan(rows=60_000, batch=400, device=device, matmul=matmul))
        assert next(made.parameters()).device.type == device
        made.to("cpu")
        with torch.no_grad():
            error = made.decode(made.encode(x))[PORT] - x
        left[device] = float(error.square().sum() / (x - x.mean(0)).square().sum())
    assert left[DEVICE] == pytest.approx(left["cpu"], abs=0.01)


@pytest.mark.parametrize("name", methods.names("dictionaries"))
def test_every_dictionary_is_fitted_saved_and_opened(name, tmp_path):
    make = smallest(name)
    rows = _Rows.planted(make(), 2048, 0)
    made = fit(make(), rows, Plan(rows=10 * 256, batch=256, device=DEVICE, every=5), out=tmp_path / "made")
    assert next(iter([*made.parameters(), *made.buffers()])).device.type == DEVICE
    opened = artifact.open(tmp_path / "made")
    batch = rows.first(256)
    there = batch.to(DEVICE)
    with torch.no_grad():
        ours, theirs = (one.encode(rows.acts, grads=rows.grads) for one, rows in ((made, there), (opened, batch)))
        same_codes(ours, theirs)
        moved = Codes(theirs.indptr.to(DEVICE), theirs.index.to(DEVICE), theirs.value.to(DEVICE), theirs.width)
        for port, y in made.decode(moved, there.acts).items():
            torch.testing.assert_close(y.cpu(), opened.decode(theirs, batch.acts)[port], atol=1e-3, rtol=1e-3)


def test_an_interrupted_fit_goes_on(tmp_path, monkeypatch):
    store, plan = Rows({PORT: sparse(2000)}), Plan(rows=8000, batch=400, device=DEVICE, every=5)
    whole = fit(TopK(reads={PORT: 48}, n_latents=96, k=4), store, plan, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        asked = iter([False] * 11 + [True] * 2)
        patch.setattr(loop, "stop_requested", lambda: next(asked))
        with pytest.raises(Interrupted):
            fit(TopK(reads={PORT: 48}, n_latents=96, k=4), store, plan, out=tmp_path / "parts")
    parts = fit(TopK(reads={PORT: 48}, n_latents=96, k=4), store, plan, out=tmp_path / "parts")
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-2)  # sums over atomics are not the same bits twice


def test_the_command_line_captures_fits_and_scores(tmp_path, capsys):
    text, acts, sae, sweep = (str(tmp_path / name) for name in ("text.jsonl", "acts", "sae", "sweep"))
    (tmp_path / "text.jsonl").write_text("\n".join(json.dumps({"text": one}) for one in TEXTS))
    there = ("--device", DEVICE)
    assert main(["capture", "pocket-mini", text, "--site", SITE, "--out", acts, *there]) == 0
    some = ("--latents", "64", "--k", "4", "--batch", "200", *there)
    assert main(["fit", "topk", acts, *some, "--out", sae]) == 0
    assert main(["fit", "topk", acts, *some[2:], "--sweep", "latents=32,64", "--out", sweep]) == 0
    capsys.readouterr()
    assert main(["score", sae, acts, "--model", "pocket-mini", "--json", *there]) == 0
    assert {one["name"] for one in json.loads(capsys.readouterr().out)} >= {"fvu", "cross_entropy"}
