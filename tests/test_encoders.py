import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from xsae.data import captions, drawing, encoders, scenes
from xsae.data.encoders import Encoder

CAPTIONS = ["a red circle on the sky", "two stars", " ".join(["much"] * 200)]


@pytest.fixture(scope="module")
def pictures():
    return [Image.fromarray(picture) for picture in drawing.render(scenes.sample(5, seed=5), np.arange(5))]


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    """SigLIP2 base with random weights, as a local open_clip folder; of its vocabulary 1,000 words are kept."""
    folder = tmp_path_factory.mktemp("siglip2")
    config = open_clip.get_model_config("ViT-B-16-SigLIP2")
    config["text_cfg"] |= {"vocab_size": 4000, "hf_tokenizer_name": str(folder)}
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    words = {word: i for i, word in enumerate(("<pad>", "<unk>", *captions.vocabulary()))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """CLIP B/32 with random weights, as a checkpoint."""
    file = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    torch.manual_seed(0)
    save_file(open_clip.create_model("ViT-B-32-quickgelu").state_dict(), file)
    return f"ViT-B-32-quickgelu:{file}"


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_embeddings_are_those_of_open_clip_one_input_at_a_time(name, pictures, request):
    name = request.getfixturevalue(name)
    architecture, _, checkpoint = name.partition(":") if not name.startswith("local-dir") else (name, "", None)
    model, _, preprocess = open_clip.create_model_and_transforms(architecture, checkpoint)
    model.eval()
    tokenizer = open_clip.get_tokenizer(architecture)
    encoder = Encoder.load(name, "cpu")
    encoder.batch_size = 2
    ours = encoder.images(torch.stack([encoder.preprocess(picture) for picture in pictures])), encoder.texts(CAPTIONS)
    with torch.inference_mode():
        theirs = (
            [model.encode_image(preprocess(picture)[None])[0].numpy() for picture in pictures],
            [model.encode_text(tokenizer([caption]))[0].numpy() for caption in CAPTIONS],
        )
    for got, expected in zip(ours, theirs, strict=True):
        assert got.dtype == np.float32 and got.shape == (len(expected), encoder.dim)
        for row, reference in zip(got, expected, strict=True):
            assert row @ reference / np.linalg.norm(row) / np.linalg.norm(reference) > 0.9999
            np.testing.assert_allclose(row, reference, rtol=1e-3, atol=1e-4)  # nor scaled: stores keep the norms


def test_the_papers_eight_models_are_known_to_open_clip_with_the_activation_they_were_trained_with():
    assert len(encoders.MODELS) == 8
    for name in encoders.MODELS:
        architecture, tag = encoders.resolve(name)
        assert (architecture, tag) in open_clip.list_pretrained()
    assert encoders.resolve("clip-b32")[0].endswith("quickgelu")
    assert not encoders.resolve("openclip-b32")[0].endswith("quickgelu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip-b23", "'clip-b23' is unknown; one of clip-b32"),
        ("ViT-B-32", "'ViT-B-32' is unknown"),
        ("ViT-B-32:absent", "'absent' is no tag of ViT-B-32 and no file; its tags: openai"),
        ("ViT-B-32:openai", "trained with quick-GELU; take ViT-B-32-quickgelu:openai"),
    ],
)
def test_a_name_that_would_embed_wrongly_is_refused_in_one_line(name, message):
    with pytest.raises(ValueError, match=message) as error:
        encoders.resolve(name)
    assert "\n" not in str(error.value)


def test_weights_that_cannot_be_had_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match="^openclip-b32: weights or tokenizer cannot be had") as error:
        Encoder.load("openclip-b32", "cpu")
    assert "\n" not in str(error.value)


def test_out_of_memory_halves_the_batch_says_so_once_and_loses_nothing(clip, pictures, capsys):
    encoder = Encoder.load(clip, "cpu")
    pixels = torch.stack([encoder.preprocess(picture) for picture in pictures])
    whole = encoder.images(pixels)
    encode = encoder.model.encode_image

    def of_small_memory(x):
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")  # what torch raises; only a GPU does so by itself
        return encode(x)

    encoder.model.encode_image, encoder.batch_size = of_small_memory, 5
    np.testing.assert_allclose(encoder.images(pixels), whole, rtol=1e-4, atol=1e-5)
    encoder.images(pixels)
    assert encoder.batch_size == 2
    assert capsys.readouterr().err.count("out of memory") == 1
