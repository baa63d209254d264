import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from xsae.data import captions, cones, drawing, encoder_data, scenes
from xsae.data import encoder_training as training
from xsae.data import scene_encoders as encoders
from xsae.data.tokenizer import Tokenizer
from xsae.evaluation.geometry import mean_similarity


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def first_scenes(n):
    """Those that an encoder of n scenes learns from, and a caption of each."""
    world = scenes.sample(n, encoder_data._FIRST_SEED)
    said, _ = captions.captions(world, encoder_data.CAPTIONS_PER_IMAGE, encoder_data._FIRST_SEED)
    return world, [of_image[0] for of_image in said]


def pooled(visual, pictures):
    with torch.inference_mode(), encoders.without_projection(visual):
        return visual(pictures)


@pytest.mark.parametrize("name", encoders.BACKBONES)
def test_shipped_weights_load_small_and_know_their_world(name):
    model = encoders.load(name)
    assert sum(path.stat().st_size for path in encoders.WEIGHTS.iterdir()) < 20e6
    world = scenes.sample(200, 99)
    texts = [said[0] for said in captions.captions(world, 1, 99)[0]]
    [image], text = (
        encoders.embed_images([model], drawing.batches(world), len(world)),
        encoders.embed_texts(model, texts),
    )
    assert image.shape == text.shape == (200, encoders.EMBED_DIM) and image.dtype == np.float32
    similarity = unit(image) @ unit(text).T
    assert (similarity.argmax(1) == np.arange(200)).mean() > 0.5  # chance is 0.005


@pytest.mark.parametrize("name", encoders.BACKBONES)
def test_manifest_of_the_weights_names_the_words_they_know_and_the_training(name):
    about = json.loads((encoders.WEIGHTS / f"{name}.json").read_text())
    assert about["backbone"] == name and about["vocabulary"] == Tokenizer().sha256
    settings = vars(training.SHIPPED[name])
    assert {key: about[key] for key in settings} == settings


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    return {name: encoders.build(name).eval() for name in encoders.BACKBONES}


@pytest.mark.parametrize("name", encoders.BACKBONES)
def test_an_embedding_does_not_depend_on_its_batch(untrained, name):
    world = scenes.sample(30, 1)
    [whole] = encoders.embed_images([untrained[name]], [drawing.render(world, np.arange(30))], 30)
    [parts] = encoders.embed_images([untrained[name]], drawing.batches(world, 7), 30)
    np.testing.assert_allclose(whole, parts, atol=1e-5)


def test_captions_cut_to_the_longest_embed_as_open_clip_embeds_them(untrained):
    texts = [said[0] for said in captions.captions(scenes.sample(40, 3), 1, 3)[0]] + ["cat", " ".join(["red"] * 60)]
    with torch.inference_mode():
        whole = untrained["vit"].encode_text(torch.from_numpy(Tokenizer()(texts))).numpy()
    np.testing.assert_allclose(encoders.embed_texts(untrained["vit"], texts, batch_size=8), whole, atol=1e-5)


def test_labels_are_the_scenes_own_and_shards_are_drawn_once(tmp_path):
    [path] = encoder_data.draw(tmp_path, 40, processes=1)
    data = training.Data([path], "cpu")
    world, texts = first_scenes(40)
    rows = torch.arange(40)
    images, named = data.pictures(rows, (0, 0)), data.labels(rows)
    tokens = data.tokens(rows, torch.zeros(40, dtype=torch.int64))
    torch.testing.assert_close(images, encoders.pixels(torch.from_numpy(drawing.render(world, np.arange(40)))))
    np.testing.assert_array_equal(tokens.numpy(), Tokenizer()(texts))
    kinds = [set(labels) for labels in (world.icon[7], world.colour[7])]
    assert named[7].sum() == sum(len(labels - {-1}) for labels in kinds) + 2
    assert all(named[7, icon] == 1 for icon in world.icon[7] if icon >= 0)
    moved = data.pictures(rows, (2, -3))
    torch.testing.assert_close(moved[..., :-2, 3:], images[..., 2:, :-3])
    made = path.stat().st_mtime_ns
    assert encoder_data.draw(tmp_path, 40, processes=1) == [path] and path.stat().st_mtime_ns == made


SMALL = training.EncoderTraining(
    n_scenes=96, naming_views=144, naming_batch=48, contrastive_views=144, contrastive_batch=48, warmup=0.2
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training.Data(encoder_data.draw(tmp_path_factory.mktemp("shards"), SMALL.n_scenes, processes=1), "cpu")


@contextmanager
def stage(name, data, number):
    """A model and one of its two stages, both as they begin."""
    torch.manual_seed(0)
    model = training.untrained(name)
    if number:
        yield model, training.Contrast(model, data, SMALL)
    else:
        with encoders.without_projection(model.visual) as width:
            yield model, training.Naming(model.visual, width, data, SMALL)


@pytest.mark.parametrize("name", encoders.BACKBONES)
@pytest.mark.parametrize("number", [0, 1])
def test_an_interrupted_stage_ends_with_the_same_bytes(data, name, number):
    with stage(name, data, number) as (_, whole):
        for _ in range(3):
            whole.advance()
            if whole.step == 1:
                kept = {key: value.clone() for key, value in whole.state().items()}
    with stage(name, data, number) as (_, again):
        again.restore(kept)
        for _ in range(2):
            again.advance()
    for (key, one), other in zip(whole.state().items(), again.state().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, msg=key)


@pytest.mark.parametrize("name", encoders.BACKBONES)
@pytest.mark.parametrize("number", [0, 1])
def test_a_stage_moves_one_tower_and_never_the_projection(data, name, number):
    with stage(name, data, number) as (model, trained):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        for _ in range(trained.steps):
            trained.advance()
        moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved and all(key.startswith("visual.") != bool(number) for key in moved)
    assert not any(key.startswith(("visual.proj", "visual.attnpool", "logit_scale")) for key in moved)


@pytest.mark.parametrize("name", encoders.BACKBONES)
def test_an_untrained_image_tower_projects_the_mean_of_its_features(data, name):
    torch.manual_seed(0)
    visual = training.untrained(name).visual.eval()
    pictures = data.pictures(torch.arange(8), (0, 0))
    with torch.inference_mode():
        with encoders.without_projection(visual) as width:
            features = visual(pictures)
        assert features.shape == (8, width)
        if name == "vit":
            projected = features @ visual.proj
        else:
            pool = visual.attnpool
            projected = pool.c_proj(pool.v_proj(features + pool.positional_embedding.mean(0)))
        torch.testing.assert_close(visual(pictures), projected)


def test_features_placed_in_a_cone_spread_as_before_about_a_mean_as_long_as_they_spread(data):
    torch.manual_seed(0)
    visual = training.untrained("vit").visual.eval()
    pictures = data.pictures(torch.arange(len(data)), (0, 0))
    before = pooled(visual, pictures)
    cones.place_images(visual, before, SMALL.seed)
    after = pooled(visual, pictures)
    torch.testing.assert_close(after - after.mean(0), before - before.mean(0), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.mean(0).norm(), after.var(0).sum().sqrt(), atol=1e-3, rtol=0)
    assert abs(mean_similarity(unit(after.numpy())) - 0.5) < 0.1  # CLIP: .52


def test_captions_are_placed_as_clips_are_beside_images(data):
    torch.manual_seed(0)
    model = training.untrained("vit").eval()
    rows = torch.arange(len(data))
    tokens = data.tokens(rows, torch.zeros_like(rows))

    def embedded():
        with torch.inference_mode():
            return encoders.encode_captions(model, tokens, 32)

    pictures = data.pictures(rows, (0, 0))
    cones.place_images(model.visual, pooled(model.visual, pictures), SMALL.seed)
    with torch.inference_mode():
        images = torch.nn.functional.normalize(model.encode_image(pictures), dim=1)
    before = embedded()
    cones.place_captions(model, before, images, SMALL.seed)
    after = embedded()
    mean = after.mean(0)
    variances = [torch.linalg.eigvalsh(torch.cov(x.T)) for x in (before, after)]
    flatter = (variances[0][-20:] / variances[0][-1]) ** 0.8
    torch.testing.assert_close(variances[1][-20:] / variances[1][-1], flatter, rtol=1e-2, atol=0)
    torch.testing.assert_close(mean.norm(), after.var(0).sum().sqrt(), rtol=1e-2, atol=0)
    assert 0.2 < mean @ images.mean(0) / mean.norm() / images.mean(0).norm() < 0.6  # CLIP: .33
    assert (images @ (mean / mean.norm())).std() < 0.5 * torch.cov(images.T).diagonal().mean().sqrt()


def test_retraining_learns_and_writes_weights_that_load(tmp_path):
    path = training.train(
        "resnet", tmp_path, replace(SMALL, naming_views=960, contrastive_views=1920, learning_rate=2e-3)
    )
    about = json.loads((tmp_path / "resnet.json").read_text())
    assert about["n_scenes"] == 96
    assert sorted(p.name for p in tmp_path.iterdir()) == ["resnet.json", "resnet.safetensors"]
    world, texts = first_scenes(96)

    def rank(model):
        [image] = encoders.embed_images([model], drawing.batches(world), len(world))
        similarity = unit(image) @ unit(encoders.embed_texts(model, texts)).T
        return (similarity > np.diag(similarity)[:, None]).sum(1).mean()

    torch.manual_seed(0)
    assert rank(encoders.load("resnet", path.parent)) < 0.75 * rank(encoders.build("resnet").eval())


def test_the_encoder_whose_embeddings_are_moved_ends_with_weights_that_load(tmp_path):
    model = encoders.load("vit", training.train("vit", tmp_path, SMALL).parent)
    world, texts = first_scenes(96)
    [image] = encoders.embed_images([model], drawing.batches(world), len(world))
    for x in (image, encoders.embed_texts(model, texts)):
        assert 0.35 < mean_similarity(unit(x)) < 0.65  # CLIP: .52 and .50


def test_the_scale_of_a_batch_asks_for_clips_margin():
    assert training.same_margin(32_768) == pytest.approx(100)
    assert np.log(1024) / training.same_margin(1024) == pytest.approx(np.log(32_768) / 100)


def test_missing_weights_other_words_and_unknown_backbones_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="make them with `python -m xsae.data.encoder_training vit"):
        encoders.load("vit", tmp_path)
    encoders.write(encoders.build("vit"), tmp_path / "vit.safetensors", {"backbone": "vit"})
    encoders.load("vit", tmp_path)
    about = json.loads((tmp_path / "vit.json").read_text())
    (tmp_path / "vit.json").write_text(json.dumps(about | {"vocabulary": "other"}))
    with pytest.raises(ValueError, match="trained on other words"):
        encoders.load("vit", tmp_path)
    with pytest.raises(ValueError, match="'clip' is unknown; one of vit, resnet"):
        encoders.load("clip")
