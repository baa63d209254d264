import numpy as np
import pytest

from xsae.data import scenes


def test_same_seed_same_world_and_other_seed_another():
    one, same, other = scenes.sample(50, 7), scenes.sample(50, 7), scenes.sample(50, 8)
    rows = np.arange(50)
    np.testing.assert_array_equal(scenes.render(one, rows), scenes.render(same, rows))
    assert scenes.captions(one, 3, 7) == scenes.captions(same, 3, 7)
    assert not np.array_equal(one.shape, other.shape)


def test_a_scene_is_drawn_alike_in_any_batch():
    world = scenes.sample(40, 1)
    together = scenes.render(world, np.arange(40))
    np.testing.assert_array_equal(together[[31]], scenes.render(world, np.array([31])))
    np.testing.assert_array_equal(together, np.concatenate(list(scenes.batches(world, 16))))


def test_every_shape_is_drawn_differently_and_within_its_cell():
    axis = np.linspace(-1.5, 1.5, 61)
    v, u = np.meshgrid(axis, axis, indexing="ij")
    inside = {shape: scenes._distance(shape, u, v) < 0 for shape in scenes.SHAPES}
    for shape, mask in inside.items():
        share = mask.mean() * 9  # of the unit disc's bounding square, times 4
        assert 0.4 < share < 4, shape
        assert not mask[[0, -1]].any() and not mask[:, [0, -1]].any(), f"{shape} leaves its cell"
    masks = list(inside.values())
    different = [np.mean(a ^ b) * 9 for i, a in enumerate(masks) for b in masks[:i]]
    assert min(different) > 0.1


def test_an_object_shows_its_colour_where_it_stands():
    world = scenes.sample(6000, 5)
    plain = (world.texture[:, 0] == 0) & (world.weather == 0) & (world.size[:, 0] == 2) & (world.shape[:, 1] < 0)
    square = np.flatnonzero(plain & np.isin(world.shape[:, 0], [0, 1]))[:10]
    assert len(square) > 3
    for row, image in zip(square, scenes.render(world, square).astype(float), strict=True):
        y, x = np.divmod(world.cell[row, 0], 3)
        column, line = (round(32 + 32 * 0.58 * (c - 1)) for c in (x, y))
        middle = image[line - 3 : line + 3, column - 3 : column + 3].mean((0, 1))
        rgb = np.array([rgb for rgb, _ in scenes.COLOURS.values()], float)
        light = 0.75 + 0.5 * world.detail[row, 0, 4]
        nearest = np.abs(rgb * light - middle).sum(1).argsort()[:3]
        assert world.colour[row, 0] in nearest


def test_labels_of_a_caption_are_what_its_words_say():
    world = scenes.sample(300, 3)
    texts, labels = scenes.captions(world, 2, 3)
    for text, named in zip(sum(texts, []), sum(labels, []), strict=True):
        words = text.split()
        for shape, synonyms in scenes.SHAPES.items():
            assert (f"shape:{shape}" in named) == any(word in words for word in synonyms), (text, shape)
        for colour, (_, synonyms) in scenes.COLOURS.items():
            assert (f"colour:{colour}" in named) == any(word in words for word in synonyms), (text, colour)


def test_captions_tell_only_part_and_one_in_twenty_is_wrong():
    world = scenes.sample(2000, 4)
    _, labels = scenes.captions(world, 1, 4)
    shapes = [{label for label in own[0] if label.startswith("shape:")} for own in labels]
    true = [{label for label in world.concepts(row) if label.startswith("shape:")} for row in range(len(world))]
    foreign = np.mean([not named <= own for named, own in zip(shapes, true, strict=True)])
    assert 0.02 < foreign < 0.07  # a wrong caption may by accident name a shape that is there
    assert np.mean([len(a) for a in shapes]) < 0.85 * np.mean([len(a) for a in true])


def test_every_caption_word_is_in_the_vocabulary():
    texts, _ = scenes.captions(scenes.sample(500, 9), 4, 9)
    assert {word for own in texts for text in own for word in text.split()} <= set(scenes.vocabulary())


def test_prompts_name_every_coloured_shape_in_words_the_encoders_know():
    prompts = scenes.prompts()
    world = scenes.sample(3000, 2)
    held = {label for row in range(len(world)) for label in world.concepts(row) if label.startswith("colour-shape:")}
    assert held == set(prompts) and len(prompts) == 240  # 6000 objects leave none of 240 out
    assert all(len(set(own)) == len(scenes.TEMPLATES) == 8 for own in prompts.values())
    assert {word for own in prompts.values() for prompt in own for word in prompt.split()} <= set(scenes.vocabulary())
    assert prompts["colour-shape:red star"][:2] == ["a red star", "a photo of a red star"]
    assert prompts["colour-shape:orange hook"][:2] == ["an orange hook", "a photo of an orange hook"]


def test_bad_calls_say_what_is_wrong():
    with pytest.raises(ValueError, match="n: 0 scenes"):
        scenes.sample(0, 1)
    with pytest.raises(ValueError, match="'blob' is not drawn"):
        scenes._distance("blob", np.zeros(1), np.zeros(1))
