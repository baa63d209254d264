"""The embedded world: scenes of named pictograms, with the exact labels of all that is in them.

A scene is one to five coloured pictograms on a background under some weather. Its statistics are the web's: few
pictograms are common and most are rare (Zipf), and those of one topic come together. `drawing` paints scenes and
`captions` tells part of them.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from xsae.data.pictograms import pictograms, topics

MAX_OBJECTS = 5
DETAILS = 6  # numbers per object that no caption tells

# Each concept is its first word; the others are its synonyms in captions.
COLOURS = {
    "red": ((210, 35, 40), ("red", "crimson")), "orange": ((240, 130, 25), ("orange", "amber")),
    "yellow": ((245, 215, 50), ("yellow", "golden")), "lime": ((150, 215, 50), ("lime",)),
    "green": ((35, 125, 55), ("green", "emerald")), "teal": ((25, 150, 150), ("teal", "turquoise")),
    "blue": ((40, 80, 205), ("blue", "azure")), "purple": ((125, 50, 165), ("purple", "violet")),
    "pink": ((245, 135, 180), ("pink", "rosy")), "brown": ((115, 70, 35), ("brown", "chestnut")),
    "white": ((240, 240, 240), ("white", "pale")), "black": ((25, 25, 28), ("black", "jet")),
}  # fmt: skip
WEATHERS = {"clear": (), "foggy": ("foggy", "misty"), "rainy": ("rainy", "wet"), "snowy": ("snowy", "wintry"),
            "dark": ("dark", "nightly")}  # fmt: skip
# name: two colours and the pattern that mixes them
BACKGROUNDS = {
    "sky": ((120, 180, 240), (215, 235, 250), "rise"), "sunset": ((245, 150, 80), (110, 60, 130), "rise"),
    "meadow": ((90, 160, 70), (140, 195, 90), "grain"), "sand": ((220, 195, 140), (200, 165, 105), "grain"),
    "sea": ((25, 85, 150), (80, 150, 195), "waves"), "lava": ((70, 10, 10), (235, 90, 20), "waves"),
    "brick": ((165, 75, 60), (205, 185, 170), "bricks"), "stone": ((115, 115, 120), (160, 160, 165), "bricks"),
    "wood": ((150, 100, 55), (120, 75, 40), "planks"), "curtain": ((150, 30, 60), (90, 10, 35), "planks"),
    "tiles": ((230, 235, 235), (130, 175, 190), "squares"), "chessboard": ((60, 60, 60), (215, 210, 200), "squares"),
    "wallpaper": ((225, 200, 215), (175, 120, 160), "dots"), "space": ((10, 10, 35), (225, 225, 255), "specks"),
    "paper": ((238, 232, 215), (225, 218, 200), "grain"), "wall": ((165, 180, 150), (150, 165, 140), "grain"),
}  # fmt: skip

ZIPF = 0.7  # exponent of how rare a pictogram is by its rank
OBJECTS = (0.2, 0.25, 0.25, 0.2, 0.1)  # how often a scene has one object, two, and so on
SAME_TOPIC = 0.7  # how often a further object is of the first one's topic
CLEAR = 0.6  # share of scenes without weather
SPLIT_SEEDS = {"train": 2, "test": 3}  # the encoders were trained on scenes of other seeds: no split is ever shared


@dataclass(frozen=True)
class Scenes:
    """`n` scenes as arrays; index codes refer to `pictograms()` and to the tables above, in their order.

    `icon`, `colour`: int64 (n, 5), -1 where there is no object, which may be in the middle of a row; no icon comes
    twice in a scene. `background`, `weather`: int64 (n,). `detail`: float32 (n, 5, 6) in [0, 1), what no caption tells.
    """

    icon: np.ndarray
    colour: np.ndarray
    background: np.ndarray
    weather: np.ndarray
    detail: np.ndarray

    def __len__(self) -> int:
        return len(self.background)

    def objects(self, row: int) -> np.ndarray:
        """The slots of scene `row` that hold an object."""
        return np.flatnonzero(self.icon[row] >= 0)

    def concepts(self, row: int) -> list[str]:
        """The labels that hold in scene `row`: `icon:cat`, `topic:animals`, `colour:red`, `background:sand`, ..."""
        labels = {f"background:{list(BACKGROUNDS)[self.background[row]]}"}
        if self.weather[row]:
            labels.add(f"weather:{list(WEATHERS)[self.weather[row]]}")
        for slot in self.objects(row):
            labels |= pictograms()[self.icon[row, slot]].labels | {f"colour:{list(COLOURS)[self.colour[row, slot]]}"}
        return sorted(labels)


@cache
def frequencies() -> np.ndarray:
    """(number of pictograms,) how often an object is each of them: rank to the power of -`ZIPF`.

    Ranks are shuffled once and for all, so that common ones are of every topic.
    """
    count = len(pictograms())
    weights = (1.0 + np.random.default_rng(0).permutation(count)) ** -ZIPF
    return weights / weights.sum()


def sample(n: int, seed: int) -> Scenes:
    """Draw `n` scenes. The same `n` and `seed` give the same scenes. Raises ValueError for n < 1."""
    if n < 1:
        raise ValueError(f"n: {n} scenes asked for; at least 1 is needed")
    rng = np.random.default_rng([seed, 1])
    icon = rng.choice(len(pictograms()), (n, MAX_OBJECTS), p=frequencies())
    topic = _topic(icon[:, 0], rng)
    together = rng.random((n, MAX_OBJECTS)) < SAME_TOPIC
    together[:, 0] = False
    for code, members in enumerate(_members()):
        mine = together & (topic == code)[:, None]
        weights = frequencies()[members]
        icon[mine] = rng.choice(members, mine.sum(), p=weights / weights.sum())
    asked = rng.choice(MAX_OBJECTS, n, p=OBJECTS) + 1
    absent = np.arange(MAX_OBJECTS) >= asked[:, None]
    for slot in range(1, MAX_OBJECTS):  # a second one of a kind is left out
        absent[:, slot] |= (icon[:, :slot] == icon[:, [slot]]).any(axis=1)
    return Scenes(
        icon=np.where(absent, -1, icon),
        colour=np.where(absent, -1, rng.integers(0, len(COLOURS), (n, MAX_OBJECTS))),
        background=rng.integers(0, len(BACKGROUNDS), n),
        weather=np.where(rng.random(n) < CLEAR, 0, rng.integers(1, len(WEATHERS), n)),
        detail=rng.random((n, MAX_OBJECTS, DETAILS), dtype=np.float32),
    )


@cache
def _members() -> list[np.ndarray]:
    """The pictograms of each topic, in the order of `topics()`."""
    return [np.array([i for i, icon in enumerate(pictograms()) if topic in icon.topics]) for topic in topics()]


def _topic(icon: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of each icon's topics, at random."""
    place = {topic: code for code, topic in enumerate(topics())}
    places = [[place[topic] for topic in icon.topics] for icon in pictograms()]
    count = np.array([len(codes) for codes in places])
    table = np.array([codes + [0] * (count.max() - len(codes)) for codes in places])
    return table[icon, (rng.random(len(icon)) * count[icon]).astype(int)]
