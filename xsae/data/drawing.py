"""Scenes as pictures of 64 x 64 pixels: a background, the pictograms on it, weather, light and grain.

A picture is a pure function of its scene. What no caption tells, the scene's `detail`, is seen here: place, size, turn
and shading of an object, light, grain, tint and frame of the picture. So is what happens to lie over something else.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from xsae.data.pictograms import glyph
from xsae.data.scenes import BACKGROUNDS, COLOURS, WEATHERS, Scenes

IMAGE_SIZE = 64
BATCH = 64  # scenes drawn together; more no longer lie in the cache
_AXIS = (np.arange(IMAGE_SIZE, dtype=np.float32) + 0.5) / (IMAGE_SIZE / 2) - 1
_Y, _X = np.meshgrid(_AXIS, _AXIS, indexing="ij")  # from -1 (top, left) to 1 (bottom, right)
_NOISE = np.random.default_rng(0).standard_normal((2 * IMAGE_SIZE, 2 * IMAGE_SIZE)).astype(np.float32)
_PAINTS = np.array([rgb for rgb, _ in COLOURS.values()], np.float32)

# By the number of objects: where they stand (column and line of the middle, in pixels) and how large they are.
_PLACES = {
    1: ((32, 32),), 2: ((18, 32), (46, 32)), 3: ((17, 19), (47, 19), (32, 46)),
    4: ((18, 18), (46, 18), (18, 46), (46, 46)),
    5: ((14, 15), (50, 15), (32, 32), (14, 49), (50, 49)),
}  # fmt: skip
_SIZES = {1: 39, 2: 31, 3: 28, 4: 26, 5: 23}
_SIZE_STEP = 3  # pixels: a mask is drawn once per size and turn
_TURNS = (-20, -10, 0, 10, 20)  # degrees
_JITTER = 5  # pixels to each side


def render(scenes: Scenes, rows: np.ndarray) -> np.ndarray:
    """Draw the scenes of `rows`: uint8 (len(rows), 64, 64, 3)."""
    canvas = _backgrounds(scenes, rows)
    for picture, row in zip(canvas, rows, strict=True):
        _objects(picture, scenes, int(row))
    _weather(canvas, scenes, rows)
    detail = scenes.detail[rows]
    light = 0.75 + 0.5 * detail[:, 0, 4, None]
    tint = 1 + 0.3 * (detail[:, 3, 3:6] - 0.5)
    canvas *= (light * tint)[:, None, None, :]
    strength = np.where(detail[:, 4, 5] < 0.3, 26, 8)[:, None, None]
    canvas += (strength * _grain(detail[:, 1, 5], detail[:, 2, 5]))[..., None]
    framed = detail[:, 1, 4] < 0.15
    edge = np.maximum(abs(_X), abs(_Y)) > 0.93
    canvas[framed[:, None, None] & edge] *= 0.3
    return np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)


def batches(scenes: Scenes, size: int = BATCH) -> Iterator[np.ndarray]:
    """All scenes drawn in order, `size` at a time, so that a world of any size fits in memory."""
    for start in range(0, len(scenes), size):
        yield render(scenes, np.arange(start, min(start + size, len(scenes))))


@lru_cache(maxsize=4096)  # of 100,000 there are: all of them would take gigabytes, and most come but once
def _mask(icon: int, size: int, turn: int) -> tuple[np.ndarray, np.ndarray]:
    """Coverage of a pictogram and of the soft rim around it: float32 (side, side, 1) each, in [0, 1]."""
    turned = glyph(icon).rotate(turn, Image.Resampling.BICUBIC, expand=True)
    side = round(turned.width * size / glyph(icon).width)
    small = turned.resize((side, side), Image.Resampling.BOX)
    padded = Image.new("L", (side + 4, side + 4))
    padded.paste(small, (2, 2))
    rim = padded.filter(ImageFilter.MaxFilter(3)).filter(ImageFilter.BoxBlur(1))
    return tuple(np.asarray(mask, np.float32)[..., None] / 255 for mask in (padded, rim))


def _objects(picture: np.ndarray, scenes: Scenes, row: int) -> None:
    """Draw the objects of scene `row` onto `picture`, (64, 64, 3), in place."""
    slots = scenes.objects(row)
    detail = scenes.detail[row]
    mirrored = detail[0, 5] < 0.5
    for slot, place in zip(slots, _PLACES[len(slots)], strict=True):
        at = detail[slot]
        size = _SIZES[len(slots)] * (0.85 + 0.3 * at[0])
        turn = _TURNS[int(at[1] * len(_TURNS))]
        inside, rim = _mask(int(scenes.icon[row, slot]), _SIZE_STEP * round(size / _SIZE_STEP), turn)
        x, y = place[::-1] if mirrored else place
        side = len(inside)
        left = min(max(round(x - side / 2 + _JITTER * (2 * at[2] - 1)), 0), IMAGE_SIZE - side)
        top = min(max(round(y - side / 2 + _JITTER * (2 * at[3] - 1)), 0), IMAGE_SIZE - side)
        paint = _PAINTS[scenes.colour[row, slot]]
        patch = picture[top : top + side, left : left + side]
        bright = 20.0 if paint.mean() > 110 else 235.0
        patch += (0.6 * rim) * (bright - patch)
        if at[4] < 0.4:  # shaded from top to bottom
            paint = paint * np.linspace(1.15, 0.65, side, dtype=np.float32)[:, None, None]
        patch += inside * (paint - patch)


def _grain(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(n, 64, 64) windows of one fixed noise sheet, at offsets given in [0, 1)."""
    windows = np.lib.stride_tricks.sliding_window_view(_NOISE, (IMAGE_SIZE, IMAGE_SIZE))
    return windows[(u * IMAGE_SIZE).astype(int), (v * IMAGE_SIZE).astype(int)]


def _backgrounds(scenes: Scenes, rows: np.ndarray) -> np.ndarray:
    canvas = np.empty((len(rows), IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    for code, (first, second, pattern) in enumerate(BACKGROUNDS.values()):
        mine = np.flatnonzero(scenes.background[rows] == code)
        if len(mine):
            detail = scenes.detail[rows[mine]]
            share = _pattern(pattern, detail[:, 0, 5], detail[:, 1, 5])
            mix = np.broadcast_to(share, (len(mine), IMAGE_SIZE, IMAGE_SIZE)).astype(np.float32)[..., None]
            canvas[mine] = np.float32(first) + mix * (np.float32(second) - np.float32(first))
    return canvas


def _pattern(name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The share of a background's second colour at each pixel, (n, 64, 64) or less where it broadcasts."""
    s, x, y = u[:, None, None], _X, _Y
    match name:
        case "rise":
            return np.clip((y + 1) / 2 + 0.4 * (s - 0.5), 0, 1)
        case "grain":
            return np.clip(0.5 + 0.35 * _grain(u, v), 0, 1)
        case "waves":
            return 0.5 + 0.5 * np.sin(9 * y + 2 * np.sin(4 * x + 6 * s))
        case "bricks":
            return (((y + s) * 3) % 1 < 0.15) | (((x + s + 0.25 * (np.floor((y + s) * 3) % 2)) * 2) % 1 < 0.1)
        case "planks":
            return ((x + s) * 3) % 1
        case "squares":
            return (np.floor((x + s) * 3) + np.floor((y + s) * 3)) % 2
        case "dots":
            return np.hypot(((x + s) * 3) % 1 - 0.5, ((y + s) * 3) % 1 - 0.5) < 0.25
        case "specks":
            return _grain(u, v) > 2.1
    raise ValueError(f"pattern: {name!r} is not drawn; see BACKGROUNDS")


def _weather(canvas: np.ndarray, scenes: Scenes, rows: np.ndarray) -> None:
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
            streak = ((4 * _X + 1.2 * _Y + detail[:, 2, 5, None, None]) % 1 < 0.12)[..., None]
            canvas[mine] += streak * 0.6 * (np.float32([170, 190, 215]) - canvas[mine])
        elif weather == "snowy":
            flakes = (_grain(detail[:, 2, 5], detail[:, 0, 5]) > 1.55)[..., None]
            canvas[mine] += flakes * (250 - canvas[mine])
