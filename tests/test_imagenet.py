import subprocess
import sys

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from xsae.data import drawing, imagenet, scenes
from xsae.data.classes import read_classes
from xsae.data.encoders import Encoder
from xsae.data.extraction import Extraction

MODEL = "ViT-S-32-alt"
GOLDFISH, SHARK, TENCH = "n01443537", "n01484850", "n01440764"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Drawn scenes in the layout of ImageNet: two of its 1,000 classes, one image and two."""
    root = tmp_path_factory.mktemp("val")
    pictures = drawing.render(scenes.sample(3, seed=5), np.arange(3))
    for picture, place in zip(pictures, (f"{SHARK}/a.png", f"{SHARK}/b.png", f"{GOLDFISH}/a.png"), strict=True):
        (root / place).parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(root / place)
    return root


@pytest.fixture(scope="module")
def clip():
    """An open_clip model of a true architecture, with random weights."""
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(MODEL)
    return model.eval(), preprocess, open_clip.get_tokenizer(MODEL)


def test_prompts_are_open_clips_names_and_templates_by_synset():
    goldfish, tench = imagenet.prompts([GOLDFISH, TENCH])
    assert len(goldfish) == len(tench) == 80
    assert goldfish[0] == "a bad photo of a goldfish." and tench[0] == "a bad photo of a tench."
    with pytest.raises(ValueError, match="folder 'cats' is none of its 1,000 synsets"):
        imagenet.prompts([TENCH, "cats"])


@torch.inference_mode()
def test_every_row_is_what_the_model_gives_for_the_image_and_for_the_mean_of_its_classs_prompts(folder, clip, tmp_path):
    model, preprocess, tokenizer = clip
    encoder = Encoder(MODEL, model, preprocess, tokenizer)
    extraction = Extraction(f"{MODEL}:{checkpoint(tmp_path, model)}", [f"imagenet:{folder}"], tmp_path / "images")
    extraction.extract(workers=0, encoder=encoder)
    arrays = imagenet.classes(encoder, extraction.merge())
    assert arrays["class_label"].tolist() == [0, 1, 1]  # folders in the order of their names: goldfish, shark
    files = [folder / GOLDFISH / "a.png", folder / SHARK / "a.png", folder / SHARK / "b.png"]
    for row, file in zip(arrays["class_image"], files, strict=True):
        alone = model.encode_image(preprocess(Image.open(file))[None])[0].numpy()
        np.testing.assert_allclose(row, alone, rtol=1e-4, atol=1e-5)
    for row, asked in zip(arrays["class_text"], imagenet.prompts([GOLDFISH, SHARK]), strict=True):
        mean = model.encode_text(tokenizer(asked), normalize=True).mean(0).numpy()
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-6)


def checkpoint(folder, model):
    save_file(model.state_dict(), folder / "clip.safetensors")
    return folder / "clip.safetensors"


def command(folder, checkpoint, into):
    arguments = ["--model", f"{MODEL}:{checkpoint}", "--images", folder, "--into", into]
    return subprocess.run(
        [sys.executable, "-m", "xsae.data.imagenet", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_the_command_adds_classes_to_an_npz_and_leaves_the_rest(tmp_path, folder, clip):
    weights, file, other = checkpoint(tmp_path, clip[0]), tmp_path / "own.npz", tmp_path / "other.npz"
    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal((12, 256), np.float32) for name in ("image", "text")}
    np.savez(file, **given)
    np.savez(other, **{name: array[:, :32] for name, array in given.items()})
    done = command(folder, weights, file)
    assert done.returncode == 0 and "class_image (3, 256)" in done.stdout, done.stderr
    assert read_classes(file)["class_text"].shape == (2, 256)
    with np.load(file) as found:
        for name, array in given.items():
            np.testing.assert_array_equal(found[name], array)

    before = other.read_bytes()
    done = command(folder, weights, other)
    assert done.returncode == 2 and "256 dimensions" in done.stderr and "has 32; use the same model" in done.stderr
    assert other.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.safetensors", "other.npz", "own.npz"]
