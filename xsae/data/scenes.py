"""The embedded world: drawn scenes, captions that mention only part of them, and the exact concept labels.

A scene is one to three objects (shape, colour, texture, size, cell of a 3 x 3 grid) on a background under some weather.
What the web does to captions is done here on purpose, because it is what gives CLIP embeddings their statistics: a
caption names only part of its scene, adds words about nothing visible, is sometimes another scene's, and the image
holds detail that no caption names (rotation, jitter, light, grain, frames).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

IMAGE_SIZE = 64
MAX_OBJECTS = 3

# Each concept is its first word; the others are its synonyms in captions.
COLOURS = {
    "red": ((210, 35, 40), ("red", "crimson")), "orange": ((240, 130, 25), ("orange", "amber")),
    "yellow": ((245, 215, 50), ("yellow", "golden")), "lime": ((150, 215, 50), ("lime",)),
    "green": ((35, 125, 55), ("green", "emerald")), "teal": ((25, 150, 150), ("teal", "turquoise")),
    "blue": ((40, 80, 205), ("blue", "azure")), "purple": ((125, 50, 165), ("purple", "violet")),
    "pink": ((245, 135, 180), ("pink", "rosy")), "brown": ((115, 70, 35), ("brown", "chestnut")),
    "white": ((240, 240, 240), ("white", "pale")), "black": ((25, 25, 28), ("black", "jet")),
}  # fmt: skip
SHAPES = {
    "circle": ("circle", "disc"), "square": ("square", "box"), "triangle": ("triangle", "wedge"),
    "diamond": ("diamond", "rhombus"), "cross": ("cross", "plus"), "ring": ("ring", "hoop"), "star": ("star",),
    "crescent": ("crescent", "moon"), "bar": ("bar", "plank"), "heart": ("heart",), "hexagon": ("hexagon",),
    "hourglass": ("hourglass",), "clover": ("clover", "shamrock"), "gear": ("gear", "cog"), "arrow": ("arrow",),
    "hook": ("hook", "corner"), "house": ("house", "cottage"), "fish": ("fish",), "tree": ("tree", "fir"),
    "mushroom": ("mushroom", "toadstool"),
}  # fmt: skip
TEXTURES = {
    "plain": (), "striped": ("striped", "banded"), "dotted": ("dotted", "spotted"), "checked": ("checked", "chequered"),
    "shaded": ("shaded", "fading"), "outlined": ("outlined", "hollow"),
}  # fmt: skip
SIZES = {"small": ("small", "tiny"), "medium": (), "large": ("large", "huge")}
RADII = np.array([0.24, 0.34, 0.46], np.float32)  # of half the image's width
CELLS = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right")
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

# Words about nothing visible: where web captions spend half of their length.
OPENINGS = (
    "a photo of", "picture of", "an image of", "stock photo of", "my favourite", "for sale", "look at", "vintage",
    "new arrival", "free download of", "the best", "hand made", "closeup of", "drawing of", "poster with", "today",
    "collection of", "art print with", "how to draw", "greeting card with",
)  # fmt: skip
ENDINGS = (
    "by anna", "by marco", "by lena", "by omar", "in paris", "in tokyo", "in lima", "from 2009", "from 2014",
    "from 2019", "on monday", "on holiday", "for kids", "for my sister", "with free shipping", "in high resolution",
    "limited edition", "all rights reserved", "number one", "number seven", "series two", "i love it", "so nice",
    "good morning", "happy birthday", "coming soon", "seen yesterday", "gift idea", "by the artist", "wow",
)  # fmt: skip
JOINS = ("on", "over", "against", "in front of")

# What zero-shot classification asks with, where ImageNet has its 80: captions that name one object and nothing else.
TEMPLATES = (
    "{}", "a photo of {}", "picture of {}", "an image of {}", "stock photo of {}", "closeup of {}", "drawing of {}",
    "art print with {}",
)  # fmt: skip

WRONG_CAPTION = 0.05  # share of captions that belong to another scene
MENTION = {"object": 0.75, "shape": 0.92, "colour": 0.75, "texture": 0.6, "size": 0.5, "cell": 0.35, "background": 0.6,
           "weather": 0.6, "opening": 0.5, "ending": 0.45}  # fmt: skip


@dataclass(frozen=True)
class Scenes:
    """`n` scenes as arrays; index codes refer to the tables above, in their order.

    `shape`, `colour`, `texture`, `size`, `cell`: int64 (n, 3), -1 where a scene has fewer than three objects;
    `background`, `weather`: int64 (n,); `detail`: float32 (n, 3, 6) in [0, 1), what no caption names.
    """

    shape: np.ndarray
    colour: np.ndarray
    texture: np.ndarray
    size: np.ndarray
    cell: np.ndarray
    background: np.ndarray
    weather: np.ndarray
    detail: np.ndarray

    def __len__(self) -> int:
        return len(self.background)

    def concepts(self, row: int) -> list[str]:
        """The labels that hold in scene `row`, such as `shape:star`, `colour:red`, `colour-shape:red star`."""
        labels = {f"background:{list(BACKGROUNDS)[self.background[row]]}"}
        if self.weather[row]:
            labels.add(f"weather:{list(WEATHERS)[self.weather[row]]}")
        for slot in np.flatnonzero(self.shape[row] >= 0):
            shape, colour = list(SHAPES)[self.shape[row, slot]], list(COLOURS)[self.colour[row, slot]]
            labels |= {f"shape:{shape}", f"colour:{colour}", f"colour-shape:{colour} {shape}"}
            if self.texture[row, slot]:
                labels.add(f"texture:{list(TEXTURES)[self.texture[row, slot]]}")
        return sorted(labels)


def sample(n: int, seed: int) -> Scenes:
    """Draw `n` scenes; every attribute is uniform and independent. The same `n` and `seed` give the same scenes."""
    if n < 1:
        raise ValueError(f"n: {n} scenes asked for; at least 1 is needed")
    rng = np.random.default_rng([seed, 1])
    objects = (n, MAX_OBJECTS)
    absent = np.arange(MAX_OBJECTS) >= rng.integers(1, MAX_OBJECTS + 1, n)[:, None]

    def attribute(count: int, plain: float = 0.0) -> np.ndarray:
        """Uniform codes; with probability `plain` the unmarked first value instead."""
        values = np.where(rng.random(objects) < plain, 0, rng.integers(0, count, objects))
        return np.where(absent, -1, values)

    return Scenes(
        shape=attribute(len(SHAPES)),
        colour=attribute(len(COLOURS)),
        texture=attribute(len(TEXTURES), plain=0.3),
        size=attribute(len(SIZES)),
        cell=np.where(absent, -1, rng.random((n, len(CELLS))).argsort(1)[:, :MAX_OBJECTS]),
        background=rng.integers(0, len(BACKGROUNDS), n),
        weather=np.where(rng.random(n) < 0.4, 0, rng.integers(0, len(WEATHERS), n)),
        detail=rng.random((n, MAX_OBJECTS, 6), dtype=np.float32),
    )


# --- captions ---------------------------------------------------------------------------------------------------------


def captions(scenes: Scenes, per_image: int, seed: int) -> tuple[list[list[str]], list[list[list[str]]]]:
    """`per_image` captions for each scene, and the concept labels that each caption's own words name.

    The labels follow the words: those of a wrong caption are the other scene's.
    """
    rng = np.random.default_rng([seed, 2])
    texts, labels = [], []
    for row in range(len(scenes)):
        texts.append([])
        labels.append([])
        for _ in range(per_image):
            source = int(rng.integers(len(scenes))) if rng.random() < WRONG_CAPTION else row
            text, mentioned = _caption(scenes, source, rng)
            texts[-1].append(text)
            labels[-1].append(sorted(mentioned))
    return texts, labels


def _caption(scenes: Scenes, row: int, rng: np.random.Generator) -> tuple[str, set[str]]:
    def says(part: str) -> bool:
        return bool(rng.random() < MENTION[part])

    def word(table: tuple[str, ...]) -> str:
        return table[int(rng.integers(len(table)))]

    labels: set[str] = set()

    def named(kind: str, table: dict, code: int) -> list[str]:
        """The chosen word for a marked attribute, if the caption mentions it."""
        concept = list(table)[code]
        synonyms = table[concept][1] if kind == "colour" else table[concept]
        if not synonyms or not says(kind):
            return []
        if kind in ("colour", "shape", "texture", "weather"):
            labels.add(f"{kind}:{concept}")
        return [word(synonyms)]

    slots = np.flatnonzero(scenes.shape[row] >= 0)
    kept = [slot for slot in slots if says("object")] or [int(rng.choice(slots))]
    phrases = []
    for slot in rng.permutation(kept):
        size = named("size", SIZES, scenes.size[row, slot])
        texture = named("texture", TEXTURES, scenes.texture[row, slot])
        colour = named("colour", COLOURS, scenes.colour[row, slot])
        shape = named("shape", SHAPES, scenes.shape[row, slot])
        if colour and shape:
            labels.add(
                f"colour-shape:{list(COLOURS)[scenes.colour[row, slot]]} {list(SHAPES)[scenes.shape[row, slot]]}"
            )
        cell = ["at the", CELLS[scenes.cell[row, slot]]] if says("cell") else []
        phrases.append(_noun_phrase([*size, *texture, *colour, *(shape or ["thing"]), *cell]))
    text = " and ".join(phrases)
    if says("background"):
        background = list(BACKGROUNDS)[scenes.background[row]]
        labels.add(f"background:{background}")
        text += f" {word(JOINS)} the {background}"
    text = " ".join([*named("weather", WEATHERS, scenes.weather[row]), text])
    if says("opening"):
        text = f"{word(OPENINGS)} {text}"
    if says("ending"):
        text = f"{text} {word(ENDINGS)}"
    return text, labels


def _noun_phrase(words: list[str]) -> str:
    return " ".join(["an" if words[0][0] in "aeiou" else "a", *words])


def prompts() -> dict[str, list[str]]:
    """The classes of zero-shot classification, every colour of every shape: concept label -> its 8 prompts."""
    return {
        f"colour-shape:{colour} {shape}": [template.format(_noun_phrase([colour, shape])) for template in TEMPLATES]
        for colour in COLOURS
        for shape in SHAPES
    }


def vocabulary() -> list[str]:
    """Every word a caption can hold, in a fixed order: the word list of the scene encoders' tokenizer."""
    phrases = ["a", "an", "the", "and", "at", "thing", *CELLS, *OPENINGS, *ENDINGS, *JOINS, *BACKGROUNDS]
    phrases += [word for _, words in COLOURS.values() for word in words]
    for table in (SHAPES, TEXTURES, SIZES, WEATHERS):
        phrases += [word for words in table.values() for word in words]
    return sorted({word for phrase in phrases for word in phrase.split()})


# --- drawing ----------------------------------------------------------------------------------------------------------


def render(scenes: Scenes, rows: np.ndarray) -> np.ndarray:
    """Draw the scenes of `rows`: uint8 (len(rows), 64, 64, 3). A pure function of the scene: no hidden randomness."""
    axis = (np.arange(IMAGE_SIZE, dtype=np.float32) + 0.5) / (IMAGE_SIZE / 2) - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")  # from -1 (top, left) to 1 (bottom, right)
    canvas = _backgrounds(scenes, rows, x, y)
    for slot in range(MAX_OBJECTS):
        present = np.flatnonzero(scenes.shape[rows, slot] >= 0)
        _paint(canvas, present, scenes, rows[present], slot, x, y)
    _weather(canvas, scenes, rows, x, y)
    detail = scenes.detail[rows]
    light = 0.75 + 0.5 * detail[:, 0, 4]
    canvas *= light[:, None, None, None]
    canvas += 18 * _grain(detail[:, 1, 5], detail[:, 2, 5])[..., None]
    framed = detail[:, 1, 4] < 0.15
    edge = np.maximum(abs(x), abs(y)) > 0.93
    canvas[framed[:, None, None] & edge] *= 0.3
    return np.clip(canvas, 0, 255).astype(np.uint8)


_NOISE = np.random.default_rng(0).standard_normal((2 * IMAGE_SIZE, 2 * IMAGE_SIZE)).astype(np.float32)


def _grain(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(n, 64, 64) windows of one fixed noise sheet, at offsets given in [0, 1)."""
    windows = np.lib.stride_tricks.sliding_window_view(_NOISE, (IMAGE_SIZE, IMAGE_SIZE))
    return windows[(u * IMAGE_SIZE).astype(int), (v * IMAGE_SIZE).astype(int)]


def _backgrounds(scenes: Scenes, rows: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    canvas = np.empty((len(rows), IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    for code, (first, second, pattern) in enumerate(BACKGROUNDS.values()):
        mine = np.flatnonzero(scenes.background[rows] == code)
        if not len(mine):
            continue
        detail = scenes.detail[rows[mine]]
        shift = detail[:, 0, 5, None, None]
        grain = _grain(detail[:, 0, 5], detail[:, 1, 5])
        share = {
            "rise": lambda s=shift: np.clip((y + 1) / 2 + 0.4 * (s - 0.5), 0, 1),
            "grain": lambda g=grain: np.clip(0.5 + 0.35 * g, 0, 1),
            "waves": lambda s=shift: 0.5 + 0.5 * np.sin(9 * y + 2 * np.sin(4 * x + 6 * s)),
            "bricks": lambda s=shift: (
                (((y + s) * 3) % 1 < 0.15) | (((x + s + 0.25 * (np.floor((y + s) * 3) % 2)) * 2) % 1 < 0.1)
            ),
            "planks": lambda s=shift: ((x + s) * 3) % 1,
            "squares": lambda s=shift: (np.floor((x + s) * 3) + np.floor((y + s) * 3)) % 2,
            "dots": lambda s=shift: np.hypot(((x + s) * 3) % 1 - 0.5, ((y + s) * 3) % 1 - 0.5) < 0.25,
            "specks": lambda g=grain: g > 2.1,
        }[pattern]()
        mix = np.broadcast_to(share, (len(mine), IMAGE_SIZE, IMAGE_SIZE)).astype(np.float32)[..., None]
        canvas[mine] = np.float32(first) * (1 - mix) + np.float32(second) * mix
    return canvas


def _paint(
    canvas: np.ndarray, present: np.ndarray, scenes: Scenes, rows: np.ndarray, slot: int, x: np.ndarray, y: np.ndarray
) -> None:
    """Draw object `slot` of each scene of `rows` onto `canvas[present]`, in place."""
    detail = scenes.detail[rows, slot]
    radius = RADII[scenes.size[rows, slot]] * (0.9 + 0.2 * detail[:, 0])
    centre_y, centre_x = np.divmod(scenes.cell[rows, slot], 3)
    u = x - ((centre_x - 1) * 0.58 + 0.12 * (detail[:, 1] - 0.5))[:, None, None].astype(np.float32)
    v = y - ((centre_y - 1) * 0.58 + 0.12 * (detail[:, 2] - 0.5))[:, None, None].astype(np.float32)
    angle = 0.5 * (detail[:, 3] - 0.5)[:, None, None]
    u, v = (np.cos(angle) * u + np.sin(angle) * v), (np.cos(angle) * v - np.sin(angle) * u)
    u, v = u / radius[:, None, None], v / radius[:, None, None]
    distance = np.empty_like(u)
    for code, shape in enumerate(SHAPES):
        mine = scenes.shape[rows, slot] == code
        distance[mine] = _distance(shape, u[mine], v[mine])
    distance *= radius[:, None, None] * (IMAGE_SIZE / 2)  # in pixels, so that edges are one pixel soft
    inside = np.clip(0.5 - distance, 0, 1)
    paint = np.array([rgb for rgb, _ in COLOURS.values()], np.float32)[scenes.colour[rows, slot]]
    paint = paint + 30 * (detail[:, 3:6] - 0.5)
    other = np.where(paint.mean(1, keepdims=True) > 128, 0.35 * paint, 0.4 * paint + 150)
    texture = scenes.texture[rows, slot][:, None, None]
    share = np.select(
        [texture == 1, texture == 2, texture == 3, texture == 4, texture == 5],
        [
            (3.2 * v) % 1 < 0.45,
            np.hypot((2.5 * u) % 1 - 0.5, (2.5 * v) % 1 - 0.5) < 0.3,
            (np.floor(2.4 * u) + np.floor(2.4 * v)) % 2,
            np.clip(0.5 + 0.6 * u, 0, 1),
            distance < -2.0,
        ],
        0.0,
    ).astype(np.float32)[..., None]
    colour = paint[:, None, None] * (1 - share) + other[:, None, None] * share
    canvas[present] += inside[..., None] * (colour - canvas[present])


def _distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """An implicit function of the shape in its own coordinates: negative inside, about the distance to the edge."""
    r, a, b = np.hypot(u, v), abs(u), abs(v)

    def box(half_width: float, half_height: float, at_u: float = 0.0, at_v: float = 0.0) -> np.ndarray:
        return np.maximum(abs(u - at_u) - half_width, abs(v - at_v) - half_height)

    match shape:
        case "circle":
            return r - 0.9
        case "square":
            return box(0.75, 0.75)
        case "triangle":
            return np.maximum(0.87 * a - 0.5 * v - 0.45, v - 0.7)
        case "diamond":
            return 0.8 * a + 0.5 * b - 0.5
        case "cross":
            return np.minimum(box(0.28, 0.9), box(0.9, 0.28))
        case "ring":
            return abs(r - 0.68) - 0.22
        case "star":
            return r - (0.62 + 0.33 * np.cos(5 * np.arctan2(u, -v)))
        case "crescent":
            return np.maximum(r - 0.9, 0.75 - np.hypot(u - 0.45, v))
        case "bar":
            return box(0.95, 0.3)
        case "heart":
            return np.minimum(np.hypot(a - 0.42, v + 0.3) - 0.47, np.maximum(0.7 * (a + v - 0.8), -v - 0.25))
        case "hexagon":
            return np.maximum(b, 0.87 * a + 0.5 * b) - 0.8
        case "hourglass":
            return np.maximum(0.7 * (a - b - 0.05), b - 0.8)
        case "clover":
            return r - (0.55 + 0.38 * np.cos(4 * np.arctan2(u, v)))
        case "gear":
            return np.maximum(r - (0.75 + 0.15 * np.sign(np.cos(8 * np.arctan2(u, v)))), 0.3 - r)
        case "arrow":
            return np.minimum(np.maximum(0.75 * a - 0.6 * (v + 0.9), v), box(0.24, 0.5, 0.0, 0.4))
        case "hook":
            return np.minimum(box(0.24, 0.85, -0.55), box(0.8, 0.24, 0.0, 0.6))
        case "house":
            return np.minimum(box(0.6, 0.45, 0.0, 0.4), np.maximum(0.7 * (a - v - 0.9), v + 0.05))
        case "fish":
            return np.minimum(np.hypot(u + 0.2, 1.6 * v) - 0.65, np.maximum(0.8 * (b - u + 0.25), u - 0.9))
        case "tree":
            return np.minimum(np.maximum(0.87 * a - 0.45 * (v + 0.95), v - 0.4), box(0.16, 0.25, 0.0, 0.65))
        case "mushroom":
            return np.minimum(np.maximum(np.hypot(u, v + 0.05) - 0.85, v), box(0.25, 0.45, 0.0, 0.4))
    raise ValueError(f"shape: {shape!r} is not drawn; one of {', '.join(SHAPES)}")


def _weather(canvas: np.ndarray, scenes: Scenes, rows: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Fog, rain, snow or darkness over the whole picture, in place."""
    for code, weather in enumerate(WEATHERS):
        mine = np.flatnonzero(scenes.weather[rows] == code)
        if not len(mine) or weather == "clear":
            continue
        detail = scenes.detail[rows[mine]]
        if weather == "foggy":
            canvas[mine] += 0.45 * (205 - canvas[mine])
        elif weather == "dark":
            canvas[mine] *= np.float32([0.38, 0.38, 0.5])
        elif weather == "rainy":
            streak = ((4 * x + 1.2 * y + detail[:, 2, 5, None, None]) % 1 < 0.12)[..., None]
            canvas[mine] += streak * 0.6 * (np.float32([170, 190, 215]) - canvas[mine])
        elif weather == "snowy":
            flakes = (_grain(detail[:, 2, 5], detail[:, 0, 5]) > 1.55)[..., None]
            canvas[mine] += flakes * (250 - canvas[mine])


def batches(scenes: Scenes, size: int = 512) -> Iterator[np.ndarray]:
    """All scenes drawn in order, `size` at a time, so that a world of any size fits in memory."""
    for start in range(0, len(scenes), size):
        yield render(scenes, np.arange(start, min(start + size, len(scenes))))
