import json

import numpy as np
import pytest
import torch

from xsae.data import scene_encoders as encoders
from xsae.data import scenes


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_tokens_start_end_and_cut():
    tokenizer = encoders.Tokenizer()
    short, long, odd = tokenizer(["a red circle", " ".join(["red"] * 60), "a zebra"])
    ids = tokenizer.ids
    assert short[:6].tolist() == [2, ids["a"], ids["red"], ids["circle"], tokenizer.end, 0]
    assert long.shape == (encoders.CONTEXT_LENGTH,) and long[-1] == tokenizer.end
    assert odd[:4].tolist() == [2, ids["a"], 1, tokenizer.end]
    assert tokenizer.end == tokenizer.vocab_size - 1  # open_clip reads the text embedding at the largest id


@pytest.mark.parametrize("name", encoders.BACKBONES)
def test_shipped_weights_load_small_and_know_their_world(name):
    model = encoders.load(name)
    assert sum(path.stat().st_size for path in encoders.WEIGHTS.iterdir()) < 20e6
    world = scenes.sample(200, 99)
    texts = [own[0] for own in scenes.captions(world, 1, 99)[0]]
    [image], text = encoders.embed_images([model], scenes.batches(world, 64)), encoders.embed_texts(model, texts)
    assert image.shape == text.shape == (200, encoders.EMBED_DIM) and image.dtype == np.float32
    similarity = unit(image) @ unit(text).T
    assert (similarity.argmax(1) == np.arange(200)).mean() > 0.2  # chance is 0.005


@pytest.mark.parametrize("name", encoders.BACKBONES)
def test_manifest_of_the_weights_names_the_training_that_made_them(name):
    about = json.loads((encoders.WEIGHTS / f"{name}.json").read_text())
    defaults = encoders.EncoderTraining()
    assert {key: about[key] for key in vars(defaults)} == vars(defaults)


def test_an_embedding_does_not_depend_on_its_batch():
    model = encoders.load(encoders.BACKBONES[0])
    world = scenes.sample(30, 1)
    [whole] = encoders.embed_images([model], [scenes.render(world, np.arange(30))])
    [parts] = encoders.embed_images([model], scenes.batches(world, 7))
    np.testing.assert_allclose(whole, parts, atol=1e-5)


def test_retraining_learns_and_writes_weights_that_load(tmp_path):
    settings = encoders.EncoderTraining(n_scenes=128, epochs=20, batch_size=64, warmup=0.2)
    path = encoders.train("vit", tmp_path, settings, progress=False)
    about = json.loads((tmp_path / "vit.json").read_text())
    assert about["n_scenes"] == 128 and sorted(p.name for p in tmp_path.iterdir()) == ["vit.json", "vit.safetensors"]
    world = scenes.sample(128, settings.seed)
    texts = [own[0] for own in scenes.captions(world, 5, settings.seed)[0]]

    def rank(model):
        [image] = encoders.embed_images([model], scenes.batches(world))
        similarity = unit(image) @ unit(encoders.embed_texts(model, texts)).T
        return (similarity > np.diag(similarity)[:, None]).sum(1).mean()

    torch.manual_seed(0)
    assert rank(encoders.load("vit", path.parent)) < 0.5 * rank(encoders.build("vit").eval())


def test_missing_weights_and_unknown_backbones_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="make them with `python -m xsae.data.scene_encoders vit"):
        encoders.load("vit", tmp_path)
    with pytest.raises(ValueError, match="'clip' is unknown; one of vit, resnet"):
        encoders.load("clip")
