"""What captions tell of a scene: part of it, by one of several words, among words about nothing visible.

What the web does to captions is done here on purpose, because it is what gives CLIP embeddings their statistics: a
caption names some of the objects, now by their name and now by another word, sometimes only their topic; it adds words
about nothing visible; and now and then it is another scene's.
"""

import re

import numpy as np

from xsae.data.pictograms import pictograms, topics
from xsae.data.scenes import BACKGROUNDS, COLOURS, WEATHERS, Scenes

# Words about nothing visible: where web captions spend half of their length. The first of a list are the commonest.
OPENINGS = (
    "a photo of", "picture of", "an image of", "stock photo of", "my sketch of", "for sale", "look at", "old print of",
    "new arrival", "free download of", "best of all", "made by hand", "closeup of", "drawing of", "poster with",
    "today", "collection of", "art print with", "how to draw", "greeting card with",
)  # fmt: skip
ENDINGS = (
    "by anna", "by marco", "by lena", "by omar", "in paris", "in tokyo", "in lima", "from 2009", "from 2014",
    "from 2019", "on monday", "on holiday", "for kids", "for my sister", "with free shipping", "in high resolution",
    "limited edition", "all rights reserved", "number one", "number seven", "series two", "i love it", "so nice",
    "good morning", "happy birthday", "coming soon", "seen yesterday", "gift idea", "by the artist", "wow",
    "by yuki", "by fatima", "by igor", "by chen", "by nora", "by diego", "in berlin", "in lagos", "in oslo",
    "in mumbai", "from 1998", "from 2003", "from 2011", "from 2022", "on friday", "in summer", "last winter",
    "for mother", "for beginners", "on demand", "sold out", "volume three", "page nine", "not so good", "i miss you",
    "thank you all", "part one", "chapter five", "made in italy", "order now",
)  # fmt: skip
FEELINGS = (
    "lovely", "funny", "sad", "great", "ugly", "cheap", "famous", "boring", "strange", "cosy", "modern", "awful",
    "charming", "serious", "noisy", "romantic",
)  # fmt: skip
JOINS = ("on", "over", "against", "in front of")

# What zero-shot classification asks with, where ImageNet has its 80: captions that name one object and nothing else.
TEMPLATES = (
    "{}", "a photo of {}", "picture of {}", "an image of {}", "stock photo of {}", "closeup of {}", "drawing of {}",
    "art print with {}",
)  # fmt: skip

CAPTIONS_PER_IMAGE = 5
MOST_NAMED = 3  # objects that one caption names
WRONG_CAPTION = 0.05  # share of captions that belong to another scene
TOPIC_ONLY = 0.12  # share of captions that name a topic where others name objects
MENTION = {"object": 0.7, "name": 0.6, "colour": 0.55, "background": 0.5, "weather": 0.5, "feeling": 0.3,
           "opening": 0.5, "ending": 0.6}  # fmt: skip


def captions(scenes: Scenes, per_image: int, seed: int) -> tuple[list[list[str]], list[list[list[str]]]]:
    """`per_image` captions for each scene, and the concept labels that each caption's own words name.

    The labels follow the words: *cat* names the topic of animals too, and those of a wrong caption are the other
    scene's.
    """
    rng = np.random.default_rng([seed, 2])
    texts: list[list[str]] = []
    labels: list[list[list[str]]] = []
    for row in range(len(scenes)):
        sources = [int(rng.integers(len(scenes))) if rng.random() < WRONG_CAPTION else row for _ in range(per_image)]
        told = [_caption(scenes, source, rng) for source in sources]
        texts.append([text for text, _ in told])
        labels.append([sorted(named) for _, named in told])
    return texts, labels


def _caption(scenes: Scenes, row: int, rng: np.random.Generator) -> tuple[str, set[str]]:
    topic_only = rng.random() < TOPIC_ONLY
    nouns, labels = (_topic if topic_only else _objects)(scenes, row, rng)
    weather = list(WEATHERS)[scenes.weather[row]]
    if WEATHERS[weather] and _says("weather", rng):
        labels.add(f"weather:{weather}")
        nouns[0] = f"{_word(WEATHERS[weather], rng)} {nouns[0]}"
    if _says("feeling", rng):
        nouns[0] = f"{_word(FEELINGS, rng)} {nouns[0]}"
    text = " and ".join(nouns if topic_only else map(_noun_phrase, nouns))
    if _says("background", rng):
        background = list(BACKGROUNDS)[scenes.background[row]]
        labels.add(f"background:{background}")
        text = f"{text} {_word(JOINS, rng)} the {background}"
    if _says("opening", rng):
        text = f"{_word(OPENINGS, rng)} {text}"
    if _says("ending", rng):
        text = f"{text} {_word(ENDINGS, rng)}"
    return text, labels


def _topic(scenes: Scenes, row: int, rng: np.random.Generator) -> tuple[list[str], set[str]]:
    """One topic that holds in the scene: `animals`."""
    held = [topic for slot in scenes.objects(row) for topic in pictograms()[scenes.icon[row, slot]].topics]
    topic = held[int(rng.random() * len(held))]
    return [topic], {f"topic:{topic}"}


def _objects(scenes: Scenes, row: int, rng: np.random.Generator) -> tuple[list[str], set[str]]:
    """Some of the objects, at least one, without their articles: `red cat`, `kitchen`."""
    slots = rng.permutation(scenes.objects(row))
    kept = [slot for slot in slots if _says("object", rng)][:MOST_NAMED] or slots[:1]
    labels, nouns = set(), []
    for slot in kept:
        icon, colour = pictograms()[scenes.icon[row, slot]], list(COLOURS)[scenes.colour[row, slot]]
        labels |= icon.labels
        noun = icon.name if _says("name", rng) else icon.words[int(rng.random() * len(icon.words))]
        if _says("colour", rng):
            labels.add(f"colour:{colour}")
            noun = f"{_word(COLOURS[colour][1], rng)} {noun}"
        nouns.append(noun)
    return nouns, labels


def _says(part: str, rng: np.random.Generator) -> bool:
    return bool(rng.random() < MENTION[part])


def _word(table: tuple[str, ...], rng: np.random.Generator) -> str:
    """One of `table`, the first ones more often."""
    return table[int(rng.random() ** 2 * len(table))]


def _noun_phrase(noun: str) -> str:
    """`a red cat`, `an owl`, `gloves`: with its article, if one goes with it."""
    if re.search(r"[^aius]s$", noun):  # a plural; `bus`, `canvas`, `tennis` and `compass` are none
        return noun
    return f"{'an' if re.match(r'[aeiou](?!ni[cv]|se)', noun) else 'a'} {noun}"


def prompts() -> dict[str, list[str]]:
    """The classes of zero-shot classification, every pictogram: concept label -> its 8 prompts."""
    return {
        f"icon:{icon.name}": [template.format(_noun_phrase(icon.name)) for template in TEMPLATES]
        for icon in pictograms()
    }


def vocabulary() -> list[str]:
    """Every word a caption can hold, in a fixed order: the word list of the scene encoders' tokenizer."""
    phrases = ["a", "an", "the", "and", *topics(), *OPENINGS, *ENDINGS, *FEELINGS, *JOINS, *BACKGROUNDS]
    phrases += [word for icon in pictograms() for word in icon.words]
    phrases += [word for _, words in COLOURS.values() for word in words]
    phrases += [word for words in WEATHERS.values() for word in words]
    return sorted({word for phrase in phrases for word in phrase.split()})
