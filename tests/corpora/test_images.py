"""A folder of images: an order, a class, and on the way to the model exactly what was said and nothing else."""

import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from actscope.core.errors import BadInput, EmptyCorpus, UsageError
from actscope.corpora.images import images
from actscope.subjects._preprocessing import preprocessing

PLAIN = {"size": 8, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def noise(seed: int, width: int = 8, height: int = 8) -> Image.Image:
    draw = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 256, (height, width, 3), generator=draw, dtype=torch.uint8)
    return Image.frombytes("RGB", (width, height), bytes(values.flatten().tolist()))


@pytest.fixture
def folder(tmp_path) -> Path:
    for number, name in enumerate(["b/2.png", "a/1.png", "a/3.bmp", "c.webp", "a/4.jpg"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise(number).save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    (tmp_path / ".hidden.png").write_bytes(b"never")
    (tmp_path / "notes.txt").write_text("never")
    return tmp_path


def test_images_stand_in_the_order_of_their_names_with_their_class(folder):
    corpus = images(folder, **PLAIN)
    every = list(corpus.documents())
    assert [(one.id, one.family) for one in every] == [
        ("a/1.png", "a"),
        ("a/3.bmp", "a"),
        ("a/4.jpg", "a"),
        ("b/2.png", "b"),
        ("c.webp", ""),
    ]
    assert len(corpus) == 5 and not any(one.text for one in every)
    for start in range(7):
        found = list(corpus.documents(start))
        assert found == every[start:]
        assert all(torch.equal(one.image, other.image) for one, other in zip(found, every[start:], strict=True))


def test_the_numbers_are_the_images(folder):
    pixels = next(images(folder, **PLAIN).documents()).image
    raw = torch.frombuffer(bytearray(noise(1).tobytes()), dtype=torch.uint8).reshape(8, 8, 3)
    assert torch.equal((pixels * 255).round().byte(), raw.permute(2, 0, 1))
    shifted = next(images(folder, size=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)).documents()).image
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    torch.testing.assert_close(shifted, (pixels - mean[:, None, None]) / std[:, None, None])
    assert next(images(folder, size=8, mean=(0.0,), std=(1.0,)).documents()).image.shape == (1, 8, 8)


def test_the_middle_is_cut_out_where_a_shorter_side_is_said(tmp_path):
    wide = Image.new("RGB", (40, 20), (0, 0, 0))
    wide.paste((255, 255, 255), (10, 0, 30, 20))
    wide.save(tmp_path / "a.png")
    cut = next(images(tmp_path, **{**PLAIN, "size": 10}, resize=10).documents()).image
    squeezed = next(images(tmp_path, **{**PLAIN, "size": (10, 10)}).documents()).image
    assert float(cut[:, :, 1:-1].min()) > 0.9 and float(squeezed[:, :, 0].max()) < 0.1
    tall = next(images(tmp_path, **{**PLAIN, "size": (6, 4)}, resize=6).documents()).image
    assert tall.shape == (3, 6, 4)


def test_the_fingerprint_follows_contents_names_and_what_is_done(folder):
    before = images(folder, **PLAIN).fingerprint
    assert images(folder, **PLAIN).fingerprint == before
    (folder / "notes.txt").write_text("other")
    assert images(folder, **PLAIN).fingerprint == before
    for change in ({"size": 7}, {"mean": (0.1, 0.0, 0.0)}, {"std": (1.0, 1.0, 2.0)}, {"resize": 9}, {"filter": "bilinear"}):
        assert images(folder, **{**PLAIN, **change}).fingerprint != before
    noise(9).save(folder / "b" / "2.png")
    assert images(folder, **PLAIN).fingerprint != before


def test_an_image_is_turned_as_its_camera_says(tmp_path):
    image = noise(1, 8, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "a.png", exif=exif)
    assert next(images(tmp_path, **{**PLAIN, "size": (8, 4)}).documents()).image.shape == (3, 8, 4)
    turned = image.transpose(Image.Transpose.ROTATE_270)
    raw = torch.frombuffer(bytearray(turned.tobytes()), dtype=torch.uint8).reshape(8, 4, 3).permute(2, 0, 1)
    found = next(images(tmp_path, **{**PLAIN, "size": (8, 4)}).documents()).image
    assert torch.equal((found * 255).round().byte(), raw)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"size": 0}, "size=0"),
        ({"resize": 4}, "resize=4"),
        ({"filter": "lanczos"}, "bicubic"),
        ({"mean": (0.0, 0.0)}, "one number each"),
        ({"std": (1.0, 0.0, 1.0)}, "std above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(folder, settings: dict, says: str):
    with pytest.raises(UsageError, match=says):
        images(folder, **{**PLAIN, **settings})


def test_what_is_no_image_is_named(tmp_path):
    with pytest.raises(EmptyCorpus, match="no image file"):
        images(tmp_path, **PLAIN)
    (tmp_path / "a.png").write_bytes(b"not an image")
    with pytest.raises(BadInput, match=r"a\.png is no image"):
        images(tmp_path, **PLAIN)
    noise(1).save(tmp_path / "b.gif")
    (tmp_path / "b.gif").rename(tmp_path / "a.png")  # a decoder that nobody asked for stays closed
    with pytest.raises(BadInput, match=r"a\.png is no image"):
        images(tmp_path, **PLAIN)
    noise(1, 64, 64).save(tmp_path / "a.png")
    os.truncate(tmp_path / "a.png", 2000)
    corpus = images(tmp_path, **PLAIN)
    with pytest.raises(BadInput, match=r"a\.png is no whole image"):
        list(corpus.documents())


def test_an_image_that_would_fill_the_memory_is_refused_unread(tmp_path):
    header = noise(1)
    header.save(tmp_path / "a.bmp")
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[18:26] = (9_500).to_bytes(4, "little") + (9_000).to_bytes(4, "little")  # width and height
    (tmp_path / "a.bmp").write_bytes(data)
    with pytest.raises(BadInput, match="pixels"):
        images(tmp_path, **PLAIN)


CONFIGS = {
    "vit": {"size": {"height": 8, "width": 8}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2},
    "clip": {
        "size": {"shortest_edge": 12}, "crop_size": {"height": 8, "width": 8}, "do_center_crop": True, "resample": 3,
        "image_mean": [0.4, 0.45, 0.5], "image_std": [0.2, 0.25, 0.3],
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_a_model_was_trained_with_is_what_transformers_does(folder, tmp_path_factory, kind: str):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    place = tmp_path_factory.mktemp("model")
    (place / "preprocessor_config.json").write_text(json.dumps(CONFIGS[kind]))
    noise(8, 31, 17).save(folder / "a" / "0.png")
    theirs = {"vit": ViTImageProcessorPil, "clip": CLIPImageProcessorPil}[kind](**CONFIGS[kind])
    settings = preprocessing(place)
    assert settings is not None
    for document in images(folder, **settings).documents():
        with Image.open(folder / document.id) as image:
            expected = torch.as_tensor(theirs(image.convert("RGB"), return_tensors="pt")["pixel_values"][0])
        torch.testing.assert_close(document.image, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"do_normalize": False},
        {"do_rescale": False},
        {"resample": 1},
        {"size": {"shortest_edge": 8}},
        {"size": {"longest_edge": 8}},
    ],
)
def test_what_we_do_not_do_is_not_said_to_be_done(tmp_path, change: dict):
    assert preprocessing(tmp_path) is None
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CONFIGS["vit"] | change))
    assert preprocessing(tmp_path) is None
