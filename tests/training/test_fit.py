"""The loop: what it trains, how it resumes, and what it does when things go wrong."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.training._toys import Endless, Line

from actscope.core import artifact, lock
from actscope.core.errors import BadInput, EmptyCorpus, Interrupted, NotFinite, UsageError
from actscope.core.progress import graceful
from actscope.training.descent import Descent
from actscope.training.fit import fit
from actscope.training.plan import Plan
from actscope.training.schedule import rate

PLAN = Plan(rows=60 * 16, batch=16, lr=1e-2, seed=3, every=7)


def make() -> Line:
    torch.manual_seed(1)
    return Line()


def stop_at(step: int):
    """A progress that asks the run to stop."""

    def progress(done: int, total: int, note: str) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGINT)

    return progress


def same(a: Line, b: Line) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state().values(), b.state().values(), strict=True))


def test_training_goes_down_and_leaves_no_files_without_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    fit(line := make(), Endless(), PLAN, progress=lambda done, total, note: seen.append((done, total, note)))
    assert not line.training
    assert seen[-1][:2] == (60, 60) and "loss" in seen[-1][2]
    first, last = (float(note.split("loss ")[1].split()[0]) for _, _, note in (seen[0], seen[-1]))
    assert last < first / 2
    assert not list(tmp_path.iterdir())


def test_the_seed_decides_the_weights():
    a, b = fit(make(), Endless(), PLAN), fit(make(), Endless(), PLAN)
    c = fit(make(), Endless(), dataclasses.replace(PLAN, seed=4))
    assert same(a, b) and not same(a, c)


def test_the_callers_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    line = Line()
    torch.manual_seed(5)
    fit(line, Endless(), PLAN)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("finite", [None, 11])
def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path, finite):
    whole = fit(make(), Endless(finite=finite), PLAN)
    with pytest.raises(Interrupted, match=r"after 23 of 60 steps.*same command"), graceful():
        fit(make(), Endless(finite=finite), PLAN, out=tmp_path / "run", progress=stop_at(23))
    resumed, source = make(), Endless(finite=finite)
    fit(resumed, source, PLAN, out=tmp_path / "run")
    assert same(whole, resumed)
    assert resumed.begun == 0
    assert source.asked[0] == ((3, 23) if finite is None else (5, 1))


def test_a_finished_run_returns_at_once(tmp_path):
    done = fit(make(), Endless(), PLAN, out=tmp_path / "run")
    source = Endless()
    again = fit(Line(), source, PLAN, out=tmp_path / "run")
    assert same(done, again) and source.asked == []
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_checkpoints_do_not_change_the_result(tmp_path):
    often = fit(make(), Endless(), dataclasses.replace(PLAN, every=1), out=tmp_path / "often")
    assert same(often, fit(make(), Endless(), PLAN))


def test_other_settings_are_refused_with_the_difference(tmp_path):
    with pytest.raises(Interrupted), graceful():
        fit(make(), Endless(), PLAN, out=tmp_path / "run", progress=stop_at(10))
    with pytest.raises(BadInput, match=r"plan\.lr is 0\.01 there and 0\.02 here"):
        fit(make(), Endless(), dataclasses.replace(PLAN, lr=2e-2), out=tmp_path / "run")
    with pytest.raises(BadInput, match=r"trainable\.settings\.width is 8 there and 9 here"):
        fit(Line(9), Endless(9), PLAN, out=tmp_path / "run")
    fit(make(), Endless(), dataclasses.replace(PLAN, every=50), out=tmp_path / "run")  # no difference to the result


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="holds other things"):
        fit(make(), Endless(), PLAN, out=tmp_path)


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path):
    with pytest.raises(Interrupted), graceful():
        fit(make(), Endless(), PLAN, out=tmp_path / "run", progress=stop_at(23))
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1] / "state.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    with pytest.warns(UserWarning, match="checkpoint before it"):
        resumed = fit(make(), Endless(), PLAN, out=tmp_path / "run")
    assert same(resumed, fit(make(), Endless(), PLAN))


def test_a_checkpoint_of_an_earlier_kind_is_passed_over_with_its_reason(tmp_path):
    with pytest.raises(Interrupted), graceful():
        fit(make(), Endless(), PLAN, out=tmp_path / "run", progress=stop_at(23))
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        manifest = artifact.read_manifest(path)
        del manifest["rows"], manifest["content"]
        artifact.commit(path, manifest)
    with pytest.warns(UserWarning, match="an earlier actscope wrote it. Going on from the checkpoint before it"):
        resumed = fit(make(), Endless(), PLAN, out=tmp_path / "run")
    assert same(resumed, fit(make(), Endless(), PLAN))


def test_a_batch_that_is_not_finite_changes_nothing(tmp_path):
    """Skipping batch 5 leaves the weights as they would be had the step never been taken."""
    fit(poisoned := make(), Endless(poison=[5]), PLAN, out=tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in poisoned.state().values())
    assert not same(poisoned, fit(make(), Endless(), PLAN))
    short = dataclasses.replace(PLAN, rows=5 * 16, warmup=0.0, decay=0.0)
    longer = dataclasses.replace(short, rows=6 * 16)
    assert same(fit(make(), Endless(poison=[5]), longer), fit(make(), Endless(), short))


def test_too_many_bad_batches_end_the_run_naming_the_last_good_checkpoint(tmp_path):
    with pytest.raises(NotFinite, match=r"of \d+ batches had no finite loss.*step-000000\d\d"):
        fit(make(), Endless(poison=range(20, 60)), PLAN, out=tmp_path / "run")


def test_divergence_ends_the_run(tmp_path):
    wild = dataclasses.replace(PLAN, lr=1e4, warmup=0.0, clip=1e9)
    with pytest.raises(NotFinite, match=r"diverged; lower Plan\(lr=10000\)"):
        fit(make(), Endless(), wild)


def test_a_source_without_batches_is_refused():
    with pytest.raises(EmptyCorpus, match="no batch in a whole pass"):
        fit(make(), Endless(finite=0), PLAN)
    with pytest.raises(UsageError, match="say how many rows"):
        fit(make(), Endless(), Plan())


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"warmup": 2.0}, {"dtype": "float33"}])
def test_a_plan_that_cannot_be_is_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Plan(**wrong)


def test_the_rate_rises_stays_and_falls():
    plan = Plan(rows=1, warmup=0.1, decay=0.2)
    rates = [rate(plan, 1.0, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0 and rates[79] == 1.0
    assert rates[99] == pytest.approx(0.05) and rates[:10] == sorted(rates[:10]) and min(rates) > 0


@pytest.mark.parametrize("clip", [1e9, 0.05])
def test_a_step_is_torchs_adam_with_torchs_clipping(clip):
    mine, other = make(), make()
    descent, adam = Descent(mine, clip), torch.optim.Adam(other.parameters(), lr=1e-2, fused=True)
    for number in range(20):
        batch = torch.randn(16, 8, generator=torch.Generator().manual_seed(number))
        torch.manual_seed(number)
        descent.step(batch, 1e-2, 0.0)
        torch.manual_seed(number)
        adam.zero_grad()
        other.objective(batch, progress=0.0)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(other.parameters(), clip)
        adam.step()
    for one, two in zip(mine.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


def test_fitting_does_not_import_torchs_compiler():
    code = (
        "import sys, tests.training.test_fit as t; t.fit(t.make(), t.Endless(), t.PLAN); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


class Half(Line):
    """A Trainable with a hand-written step: plain descent at half the gradient."""

    def fused(self, plan):
        return HalfStep(self)


class HalfStep:
    def __init__(self, line: Line):
        self.line = line
        self.count = torch.zeros(())

    def step(self, batch, lr: float, progress: float) -> dict[str, float]:
        loss = self.line.objective(batch, progress=progress)["loss"]
        grads = torch.autograd.grad(loss, list(self.line.parameters()))
        if torch.isfinite(loss):
            for parameter, grad in zip(self.line.parameters(), grads, strict=True):
                parameter.data -= 0.5 * lr * grad
            self.count += 1
        return {"loss": loss.item()}

    def after_step(self, progress: float) -> None:
        self.line.after_step(progress)

    def state(self):
        return {"count": self.count}

    def load(self, state) -> None:
        self.count.copy_(state["count"])


def test_a_hand_written_step_is_used_and_resumed(tmp_path):
    def half() -> Half:
        torch.manual_seed(1)
        return Half()

    whole = fit(half(), Endless(poison=[4]), PLAN)
    assert not same(whole, half()) and not same(whole, fit(make(), Endless(poison=[4]), PLAN))
    with pytest.raises(Interrupted), graceful():
        fit(half(), Endless(poison=[4]), PLAN, out=tmp_path / "run", progress=stop_at(23))
    assert same(whole, fit(half(), Endless(poison=[4]), PLAN, out=tmp_path / "run"))


def test_a_folder_has_one_writer(tmp_path):
    with lock.hold(tmp_path), pytest.raises(BadInput, match="is being written by process"):
        fit(make(), Endless(), PLAN, out=tmp_path)


def test_what_is_not_finished_cannot_be_opened_and_says_what_to_do(tmp_path):
    with pytest.raises(Interrupted), graceful():
        fit(make(), Endless(), PLAN, out=tmp_path / "run", progress=stop_at(23))
    with pytest.raises(BadInput, match="not finished; run the command that began it again"):
        artifact.open(tmp_path / "run")
