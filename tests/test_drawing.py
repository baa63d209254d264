from dataclasses import replace

import numpy as np
import pytest

from xsae.data import drawing, scenes


def test_a_scene_is_drawn_alike_in_any_batch():
    world = scenes.sample(40, 1)
    together = drawing.render(world, np.arange(40))
    assert together.shape == (40, 64, 64, 3) and together.dtype == np.uint8
    np.testing.assert_array_equal(together[[31]], drawing.render(world, np.array([31])))
    np.testing.assert_array_equal(together, np.concatenate(list(drawing.batches(world, 16))))


def calm(n, seed=5):
    """Scenes without weather, of even light, without shading: what is drawn is the paint itself."""
    world = scenes.sample(n, seed)
    detail = world.detail.copy()
    detail[:, 0, 4], detail[:, 3, 3:6], detail[:, 4, 5], detail[:, 1, 4] = 0.5, 0.5, 0.5, 0.5
    detail[:, 2:, 4] = 0.5
    return replace(world, weather=np.zeros_like(world.weather), detail=detail)


def test_an_object_shows_its_colour():
    world = calm(60)
    paints = np.array([rgb for rgb, _ in scenes.COLOURS.values()], float)
    for row in np.flatnonzero((world.icon >= 0).sum(axis=1) == 1)[:8]:
        picture = drawing.render(world, np.array([row]))[0].astype(float)
        near = np.abs(picture - paints[world.colour[row, 0]]).mean(axis=2) < 25
        assert near.mean() > 0.03, row  # a pictogram of 39 pixels covers more than a twentieth of the picture


def test_every_object_and_each_background_changes_the_picture():
    world = calm(30)
    for row in range(len(world)):
        picture = drawing.render(world, np.array([row])).astype(float)
        for slot in world.objects(row):
            other = world.icon.copy()
            other[row, slot] = (other[row, slot] + 1) % 900
            changed = drawing.render(replace(world, icon=other), np.array([row])).astype(float)
            assert (np.abs(changed - picture).max(axis=3) > 30).mean() > 0.005
        background = (world.background + 1) % len(scenes.BACKGROUNDS)
        changed = drawing.render(replace(world, background=background), np.array([row])).astype(float)
        assert np.abs(changed - picture).mean() > 5


def test_each_weather_is_seen():
    world = calm(20)
    clear = drawing.render(world, np.arange(20)).astype(float)
    for weather in range(1, len(scenes.WEATHERS)):
        shown = drawing.render(replace(world, weather=np.full(20, weather)), np.arange(20)).astype(float)
        assert np.abs(shown - clear).mean() > 5


def test_a_pattern_nobody_draws_is_refused():
    with pytest.raises(ValueError, match="'stripes' is not drawn"):
        drawing._pattern("stripes", np.zeros(1), np.zeros(1))
