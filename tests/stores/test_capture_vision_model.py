"""A folder of images through a model of images, from the two folders to the rows: as a user has them."""

import json

import pytest
import torch
from PIL import Image

from actscope.cli import main
from actscope.core.errors import BadInput
from actscope.corpora.images import images
from actscope.stores.capture import capture
from actscope.stores.disk import DiskStore
from actscope.subjects.load import load

SITE = "layers.1.mlp_out"
PREPARED = {"size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from transformers import ViTConfig, ViTForImageClassification

    path = tmp_path_factory.mktemp("vit")
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, image_size=16, patch_size=4,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ViTForImageClassification(config).save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(PREPARED))
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    draw = torch.Generator().manual_seed(1)
    for number in range(7):
        values = torch.randint(0, 256, (20, 24, 3), generator=draw, dtype=torch.uint8)
        Image.frombytes("RGB", (24, 20), bytes(values.flatten().tolist())).save(path / f"{number}.png")
    return path


def test_a_row_is_a_patch_of_an_image_or_the_class_token(model, pictures):
    subject = load(model)
    corpus = images(pictures, **subject.preprocessing)
    store = capture(subject, corpus, SITE)
    assert len(store) == 7 * 17
    rows = store.rows(torch.arange(len(store)), store.ports)
    assert rows.where.tolist() == [[image, place] for image in range(7) for place in range(17)]
    pixels = torch.stack([document.image for document in corpus.documents()])
    with torch.no_grad():
        direct = next(iter(subject.run(subject.prepare(pixels), read=[next(iter(store.ports)).site]).acts.values()))
    torch.testing.assert_close(next(iter(rows.acts.values())), direct.flatten(0, 1), rtol=1e-5, atol=1e-5)


def test_the_command_line_captures_images_and_goes_on(model, pictures, tmp_path):
    command = ["capture", str(model), str(pictures), "--site", SITE, "--out", str(tmp_path / "acts"), "--json"]
    assert main(command) == 0
    first = DiskStore(tmp_path / "acts")
    assert len(first) == 7 * 17
    assert main(command) == 0 and DiskStore(tmp_path / "acts").content == first.content


def test_images_and_texts_go_to_their_own_models(model, pictures, tmp_path):
    (tmp_path / "a.txt").write_text("a text of some length")
    assert main(["capture", str(model), str(tmp_path), "--site", SITE, "--out", str(tmp_path / "out")]) == 3
    assert main(["capture", "pocket-mini", str(pictures), "--site", "embed", "--out", str(tmp_path / "out")]) == 3
    subject = load("pocket-mini")
    with pytest.raises(BadInput):
        capture(subject, images(pictures, size=16, mean=(0.5,), std=(0.5,)), "embed")
