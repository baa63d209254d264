from itertools import combinations

import numpy as np
import pytest

from xsae.data import scenes
from xsae.data.pictograms import pictograms


@pytest.fixture(scope="module")
def world():
    return scenes.sample(20_000, 5)


def test_same_seed_same_world_and_other_seed_another():
    one, same, other = scenes.sample(50, 7), scenes.sample(50, 7), scenes.sample(50, 8)
    for name in ("icon", "colour", "background", "weather", "detail"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    assert not np.array_equal(one.icon, other.icon)


def test_scenes_hold_one_to_five_different_objects(world):
    present = world.icon >= 0
    np.testing.assert_array_equal(present, world.colour >= 0)
    assert set(present.sum(axis=1)) == {1, 2, 3, 4, 5}
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in world.icon)


def test_icons_are_common_and_rare_as_zipf_says(world):
    counts = np.bincount(world.icon[world.icon >= 0], minlength=len(pictograms()))
    expected = scenes.frequencies() * counts.sum()
    order = np.argsort(-expected)
    for first, last in ((0, 30), (30, 100), (100, 300), (300, 952)):
        part = order[first:last]
        # topics move single icons; bands of ranks keep their share
        assert counts[part].sum() == pytest.approx(expected[part].sum(), rel=0.15)
    assert expected.max() > 100 * expected.min()
    assert (counts > 0).all()


def test_icons_of_one_topic_come_together(world):
    def share(pairs):
        shared = [set(pictograms()[a].topics) & set(pictograms()[b].topics) for a, b in pairs]
        return np.mean([bool(topics) for topics in shared])

    rows = [row[row >= 0] for row in world.icon[:3000]]
    together = share([pair for row in rows for pair in combinations(row, 2)])
    rng = np.random.default_rng(0)
    chance = share(rng.permutation(np.concatenate(rows))[: 2 * (len(rows) // 2)].reshape(-1, 2))
    assert together > 0.5 and together > 2.5 * chance


def test_concepts_are_all_that_holds(world):
    row = int(np.flatnonzero((world.weather > 0) & ((world.icon >= 0).sum(axis=1) == 2))[0])
    first, second = (pictograms()[world.icon[row, slot]] for slot in world.objects(row))
    colours = [list(scenes.COLOURS)[world.colour[row, slot]] for slot in world.objects(row)]
    assert set(world.concepts(row)) == {
        f"icon:{first.name}", f"icon:{second.name}", *(f"topic:{topic}" for topic in {*first.topics, *second.topics}),
        *(f"colour:{colour}" for colour in colours), f"background:{list(scenes.BACKGROUNDS)[world.background[row]]}",
        f"weather:{list(scenes.WEATHERS)[world.weather[row]]}",
    }  # fmt: skip


def test_a_world_of_nothing_is_refused():
    with pytest.raises(ValueError, match="n: 0 scenes"):
        scenes.sample(0, 1)
