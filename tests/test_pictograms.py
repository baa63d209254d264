from importlib.metadata import metadata

import numpy as np
import pytest
from PIL import Image

from xsae.data import pictograms
from xsae.data.pictograms import glyph, selection, topics


@pytest.fixture(scope="module")
def icons():
    return pictograms.pictograms()


def test_each_rule_leaves_out_what_the_documentation_says(icons):
    counts = selection()[1]
    assert counts == {"solid": 1394, "signs": 238, "badges": 123, "alike": 81, "kept": 952}
    assert counts["solid"] - sum(counts[rule] for rule in ("signs", "badges", "alike")) == counts["kept"] == len(icons)


def test_things_stay_and_signs_badges_and_twins_go(icons):
    names = {icon.name for icon in icons}
    assert {"cat", "truck", "umbrella", "volcano", "book"} <= names
    assert not {"a", "7", "arrow up", "euro sign", "bold", "font awesome"} & names  # signs
    assert not {"heart circle check", "bell slash", "user plus"} & names  # badges
    assert "face grin" in names and "face grin beam" not in names  # alike at 24 pixels


def test_no_two_kept_look_alike_and_none_is_near_the_limit(icons):
    masks = [np.asarray(glyph(row).resize((24, 24), Image.Resampling.BOX), float) for row in range(len(icons))]
    masks = np.pad(masks, ((0, 0), (1, 1), (1, 1))).reshape(len(icons), -1)
    correlation = np.corrcoef(masks)[np.triu_indices(len(icons), 1)]
    assert correlation.max() < pictograms.ALIKE - 2e-4  # so that another version of Pillow decides the same


def test_names_are_unique_and_words_are_letters_of_one_icon_before_others(icons):
    names = [icon.name for icon in icons]
    assert len(set(names)) == len(names)
    for icon in icons:
        assert icon.words[0] == icon.name and 1 <= len(set(icon.words)) == len(icon.words) <= pictograms.WORDS
        assert not set(icon.words[1:]) & set(names), "a synonym is the name of another"
        assert all(word == word.lower() and word.replace(" ", "").isalnum() for word in icon.words)
    assert np.mean([len(icon.words) > 1 for icon in icons]) > 0.8


def test_every_pictogram_has_a_topic_and_topics_are_many(icons):
    assert all(icon.topics for icon in icons)
    assert len(topics()) > 50 and {"animals", "food beverage", "weather"} <= set(topics())
    cat = next(icon for icon in icons if icon.name == "cat")
    assert "animals" in cat.topics


def test_a_glyph_fills_its_square(icons):
    for row in range(0, len(icons), 50):
        mask = np.asarray(glyph(row)) > 127
        reached = [mask.any(axis=axis).nonzero()[0] for axis in (0, 1)]
        assert max(places[-1] - places[0] for places in reached) >= 93, icons[row].name  # of 96 pixels, one way


def test_the_makers_are_credited():
    about = metadata("fontawesomefree")
    assert about["Name"] == "fontawesomefree" and "fontawesome.com/license/free" in about["License"]
    assert "CC BY 4.0" in pictograms.__doc__ and "OFL" in pictograms.__doc__
