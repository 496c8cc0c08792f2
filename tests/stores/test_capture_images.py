"""Images are captured as texts are: a row a token of each, in corpus order, the same bytes after an interruption."""

import pytest
import torch
from tiny_subject import TinySubject

from actscope.core.corpus import Document
from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs, Run
from actscope.core.site import Site, SiteInfo
from actscope.corpora.texts import texts
from actscope.stores.capture import capture
from actscope.stores.predict import predict

OUT = Site("resid_post", 0)
PATCH, D = 4, 6


class Sees(TinySubject):
    """Patches of 4 x 4 through one product, and a token before them that is their mean."""

    name, context = "sees", 64

    def __init__(self):
        super().__init__()
        self.product = torch.randn(3 * PATCH * PATCH, D, generator=torch.Generator().manual_seed(0))
        self.sites = {OUT: SiteInfo(("b", "t", D), "product", "out")}
        self.order = [OUT]

    def prepare(self, raw):
        if not isinstance(raw, torch.Tensor):
            raise BadInput("sees takes images")
        tokens = 1 + raw.shape[2] // PATCH * (raw.shape[3] // PATCH)
        return Inputs(pixels=raw, mask=torch.ones(len(raw), tokens, dtype=torch.bool))

    def run(self, inputs, *, read=(), write=(), grad=False, cache=None):
        x = inputs.pixels.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # b c y x p p
        x = x.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2) @ self.product
        return Run(None, {OUT: torch.cat([x.mean(1, keepdim=True), x], 1)})


class Shown:
    name, fingerprint = "shown", "shown"

    def __init__(self, count: int = 9, size: int = 8):
        draw = torch.Generator().manual_seed(1)
        self.listed = [
            Document(f"{i}.png", "", family="ab"[i % 2], image=torch.randn(3, size, size, generator=draw)) for i in range(count)
        ]

    def documents(self, start: int = 0):
        return iter(self.listed[start:])


def test_every_token_of_an_image_is_a_row_in_corpus_order(tmp_path):
    subject, corpus = Sees(), Shown()
    store = capture(subject, corpus, OUT, context=5)
    assert len(store) == 9 * 5
    rows = store.rows(torch.arange(45), store.ports)
    assert rows.where.tolist() == [[document, place] for document in range(9) for place in range(5)]
    direct = subject.run(subject.prepare(torch.stack([one.image for one in corpus.listed]))).acts[OUT]
    torch.testing.assert_close(next(iter(rows.acts.values())), direct.flatten(0, 1))
    assert predict(subject, corpus, OUT, context=5).rows == 45


def test_a_capture_of_images_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("actscope.stores.capture.UNIT", 10)
    whole = capture(Sees(), Shown(), OUT, out=tmp_path / "whole", context=5)

    def stop(done, total, note):
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture(Sees(), Shown(), OUT, out=tmp_path / "cut", context=5, progress=stop)
    assert capture(Sees(), Shown(), OUT, out=tmp_path / "cut", context=5).content == whole.content


def test_what_cannot_be_read_together_is_refused():
    mixed = Shown(2)
    mixed.listed.append(Document("text", "a text"))
    uneven = Shown(2)
    uneven.listed += Shown(1, size=12).listed
    for corpus, settings, says in (
        (mixed, {}, "images and texts"),
        (uneven, {}, "several sizes"),
        (Shown(), {"packed": True}, "packed"),
        (Shown(), {"grads": True}, "grads"),
        (Shown(), {"context": 4}, "an image is 5 tokens"),
    ):
        with pytest.raises(BadInput, match=says):
            capture(Sees(), corpus, OUT, **{"context": 5, **settings})
    with pytest.raises(BadInput, match="given to texts"):
        texts(Shown().listed)
