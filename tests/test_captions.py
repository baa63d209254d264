import numpy as np
import pytest

from xsae.data import captions, scenes
from xsae.data.pictograms import pictograms, topics
from xsae.data.tokenizer import CONTEXT_LENGTH, Tokenizer

KINDS = {"icon", "topic", "colour", "background", "weather"}


@pytest.fixture(scope="module")
def told():
    world = scenes.sample(2000, 4)
    return world, *captions.captions(world, 2, 4)


def test_same_seed_same_captions():
    world = scenes.sample(50, 7)
    assert captions.captions(world, 3, 7) == captions.captions(world, 3, 7) != captions.captions(world, 3, 8)


def test_what_is_labelled_is_said(told):
    _, texts, labels = told
    words = {f"icon:{icon.name}": icon.words for icon in pictograms()}
    words |= {f"colour:{name}": synonyms for name, (_, synonyms) in scenes.COLOURS.items()}
    words |= {f"weather:{name}": synonyms for name, synonyms in scenes.WEATHERS.items()}
    words |= {f"topic:{topic}": (topic, *_words_of(topic)) for topic in topics()}
    for text, named in zip(sum(texts, []), sum(labels, []), strict=True):
        for label in named:
            kind, _, name = label.partition(":")
            assert any(f" {word} " in f" {text} " for word in words.get(label, (name,))), (text, label)
            assert kind in KINDS


def _words_of(topic: str) -> set[str]:
    return {word for icon in pictograms() if topic in icon.topics for word in icon.words}


def test_who_names_an_icon_names_its_topics(told):
    topics_of = {f"icon:{icon.name}": {f"topic:{topic}" for topic in icon.topics} for icon in pictograms()}
    for named in sum(told[2], []):
        follow = set().union(*(topics_of[label] for label in named if label in topics_of))
        said = {label for label in named if label.startswith("topic:")}
        assert said == follow if follow else len(said) == 1, named


def test_what_is_said_of_colour_background_and_weather_is_labelled(told):
    _, texts, labels = told
    icon_words = {word for icon in pictograms() for name in icon.words for word in name.split()}
    icon_words |= {word for icon in pictograms() for topic in icon.topics for word in topic.split()}
    words = {f"colour:{name}": synonyms for name, (_, synonyms) in scenes.COLOURS.items()}
    words |= {f"weather:{name}": synonyms for name, synonyms in scenes.WEATHERS.items()}
    for text, named in zip(sum(texts, []), sum(labels, []), strict=True):
        for label, synonyms in words.items():
            if set(synonyms) - icon_words & set(text.split()):
                said = (set(synonyms) - icon_words) & set(text.split())
                assert not said or label in named, (text, label)


def test_captions_tell_only_part_and_one_in_twenty_is_wrong(told):
    world, _, labels = told
    held = [set(world.concepts(row)) for row in range(len(world)) for _ in range(2)]
    named = [set(concepts) for concepts in sum(labels, [])]
    foreign = np.mean([not concepts <= true for concepts, true in zip(named, held, strict=True)])
    assert 0.035 < foreign < 0.06  # a wrong caption may by accident name nothing but what is there
    icons = [[sum(label.startswith("icon:") for label in concepts) for concepts in sets] for sets in (named, held)]
    assert np.mean(icons[0]) < 0.75 * np.mean(icons[1])
    only_topic = np.mean([not any(label.startswith("icon:") for label in concepts) for concepts in named])
    assert only_topic == pytest.approx(captions.TOPIC_ONLY, abs=0.02)


def test_every_word_of_captions_and_prompts_is_known_to_the_encoders(told):
    known = set(captions.vocabulary())
    assert {word for texts in told[1] for text in texts for word in text.split()} <= known
    assert {word for texts in captions.prompts().values() for text in texts for word in text.split()} <= known


def test_a_caption_names_an_icon_by_several_words(told):
    _, texts, labels = told
    by_name = [
        f" {label[5:]} " in f" {text} "
        for text, named in zip(sum(texts, []), sum(labels, []), strict=True)
        for label in named
        if label.startswith("icon:")
    ]
    assert 0.6 < np.mean(by_name) < 0.95


def test_prompts_name_every_pictogram():
    prompts = captions.prompts()
    assert list(prompts) == [f"icon:{icon.name}" for icon in pictograms()]
    assert all(len(set(texts)) == len(captions.TEMPLATES) == 8 for texts in prompts.values())
    assert prompts["icon:cat"][:2] == ["a cat", "a photo of a cat"]
    assert prompts["icon:umbrella"][:2] == ["an umbrella", "a photo of an umbrella"]


def test_tokens_start_end_and_cut():
    tokenizer = Tokenizer()
    short, long, odd = tokenizer(["a red cat", " ".join(["red"] * 60), "a zzz"])
    ids = tokenizer.ids
    assert short[:6].tolist() == [2, ids["a"], ids["red"], ids["cat"], tokenizer.end, 0]
    assert long.shape == (CONTEXT_LENGTH,) and long[-1] == tokenizer.end
    assert odd[:4].tolist() == [2, ids["a"], 1, tokenizer.end]
    assert tokenizer.end == tokenizer.vocab_size - 1  # open_clip reads the text embedding at the largest id


def test_hardly_a_caption_is_cut(told):
    lengths = np.array([len(text.split()) for texts in told[1] for text in texts])
    assert np.mean(lengths > CONTEXT_LENGTH - 2) < 0.001
