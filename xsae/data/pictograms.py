"""What scenes are made of: about a thousand named pictograms of Font Awesome Free, their words and their topics.

Font, names, search terms and topics are read from the makers' own package, `fontawesomefree` (icons CC BY 4.0, font SIL
OFL 1.1); nothing of it is copied here. Which pictograms take part is a rule, in `pictograms`.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np
import yaml
from PIL import Image, ImageDraw, ImageFont

LEFT_OUT_TOPICS = ("alphabet", "numbers", "arrows", "text-formatting")  # signs rather than things
CURRENCY = "-sign"  # how the names of currency signs end
LARGEST_TOPIC = 150  # icons; what is larger, one category of 333, is no topic
# A name that ends in one of these, after the name of another pictogram, is that one with a small sign in a corner.
BADGES = (
    "circle-check", "circle-exclamation", "circle-xmark", "circle-minus", "circle-plus", "circle-question",
    "circle-bolt", "lock", "slash", "check", "xmark", "plus", "minus", "un", "user", "medical", "dollar",
)  # fmt: skip
PLAIN = ("circle", "square")  # a sign within one of these is the whole picture, no badge
ALIKE_SIZE = 24  # pixels, about as large as scenes show them
# Two whose masks correlate more than this are told apart by nobody. It lies in a gap: no pair is within .0004 of it, so
# that no version of Pillow decides otherwise.
ALIKE = 0.9217
WORDS = 3  # a pictogram goes by its label and by search terms of its own, so many in all at most
_GLYPH = 96  # pixels; masks of every size are made of this one


@dataclass(frozen=True)
class Pictogram:
    """One pictogram: its `name`, the `words` a caption may call it by, its `topics`, and its place in the font."""

    name: str
    words: tuple[str, ...]
    topics: tuple[str, ...]
    character: str

    @property
    def labels(self) -> set[str]:
        """What it is, and what follows from that: `icon:cat`, `topic:animals`."""
        return {f"icon:{self.name}"} | {f"topic:{topic}" for topic in self.topics}


@cache
def pictograms() -> tuple[Pictogram, ...]:
    """The pictograms that scenes may show, in a fixed order.

    Left out of the solid ones, in this order: letters, digits, arrows, text formats (by category), currency signs and
    brands; those that are another one with a badge in a corner (by name); those that correlate above `ALIKE` with one
    that is kept, at `ALIKE_SIZE` pixels. Of two alike, the one with the shorter name stays. `selection` counts them.
    """
    return selection()[0]


@cache
def selection() -> tuple[tuple[Pictogram, ...], dict[str, int]]:
    """The pictograms, and how many of the font's solid ones each rule leaves out: rule -> count."""
    about, categories = _metadata()
    signs = {icon for topic in LEFT_OUT_TOPICS for icon in categories[topic]["icons"]}
    solid = [name for name, icon in about.items() if "solid" in icon["free"] and name != "notdef"]
    signs |= {name for name in solid if name.endswith(CURRENCY) or "brands" in about[name]["styles"]}
    things = [name for name in solid if name not in signs]
    whole = [name for name in things if not _badged(name, about)]
    kept = _told_apart(sorted(whole, key=lambda name: (name.count("-"), len(name), name)), about)
    counts = {
        "solid": len(solid),
        "signs": len(solid) - len(things),
        "badges": len(things) - len(whole),
        "alike": len(whole) - len(kept),
        "kept": len(kept),
    }
    topics = {
        _plain(category["label"]): set(category["icons"])
        for key, category in categories.items()
        if key not in LEFT_OUT_TOPICS and len(category["icons"]) <= LARGEST_TOPIC
    }
    names = {name.replace("-", " ") for name in kept}
    users = Counter(term for name in kept for term in _terms(about[name]))
    found = []
    for name in kept:
        label = name.replace("-", " ")
        terms = [term for term in _terms(about[name]) if users[term] <= 4 and term not in names]
        words = dict.fromkeys([label, *sorted(terms, key=lambda term: (users[term], term))])
        of = tuple(topic for topic, icons in topics.items() if name in icons)
        found.append(Pictogram(label, tuple(words)[:WORDS], of, chr(int(about[name]["unicode"], 16))))
    return tuple(found), counts


@cache
def topics() -> tuple[str, ...]:
    """The names of all topics, such as `animals` or `food beverage`."""
    return tuple(dict.fromkeys(topic for icon in pictograms() for topic in icon.topics))


@cache
def glyph(index: int) -> Image.Image:
    """Pictogram `index`, white on black, its longer side filling a square of 96 pixels."""
    return _glyph(pictograms()[index].character)


def _metadata() -> tuple[dict, dict]:
    folder = _package() / "metadata"
    return json.loads((folder / "icons.json").read_bytes()), yaml.safe_load((folder / "categories.yml").read_bytes())


def _package():
    return files("fontawesomefree") / "static" / "fontawesomefree"


@cache
def _font() -> ImageFont.FreeTypeFont:
    with as_file(_package() / "webfonts" / "fa-solid-900.ttf") as path:
        return ImageFont.truetype(str(path), _GLYPH)


def _glyph(character: str) -> Image.Image:
    left, top, right, bottom = _font().getbbox(character)
    side = max(right - left, bottom - top)
    image = Image.new("L", (side, side))
    place = ((side - right + left) // 2 - left, (side - bottom + top) // 2 - top)
    ImageDraw.Draw(image).text(place, character, 255, _font())
    return image.resize((_GLYPH, _GLYPH), Image.Resampling.BOX)


def _badged(name: str, about: dict) -> bool:
    bases = [name.removesuffix(f"-{badge}") for badge in BADGES if name.endswith(f"-{badge}")]
    return any(base in about and base not in PLAIN for base in bases)


def _told_apart(names: list[str], about: dict) -> list[str]:
    """Those of `names` that do not look like an earlier one of them."""
    size = (ALIKE_SIZE, ALIKE_SIZE)
    glyphs = (_glyph(chr(int(about[name]["unicode"], 16))) for name in names)
    masks = np.stack([np.asarray(glyph.resize(size, Image.Resampling.BOX), np.float64) for glyph in glyphs])
    masks = np.pad(masks, ((0, 0), (1, 1), (1, 1))).reshape(len(names), -1)  # within a margin even a square has an edge
    masks -= masks.mean(axis=1, keepdims=True)
    masks /= np.linalg.norm(masks, axis=1, keepdims=True)
    correlation = masks @ masks.T
    kept: list[int] = []
    for row in range(len(names)):
        if not (correlation[row, kept] > ALIKE).any():
            kept.append(row)
    return [names[row] for row in kept]


def _plain(text: str) -> str:
    """Lower case, letters only, single spaces."""
    return " ".join(re.findall("[a-z]+", text.lower()))


def _terms(about: dict) -> set[str]:
    """Search terms of one or two words without digits and signs, and the label."""
    terms = {term.strip().lower() for term in (*about["search"]["terms"], about["label"])}
    return {term for term in terms if re.fullmatch("[a-z]{3,}( [a-z]{3,})?", term)}
