"""The concept explorer: one page that opens from the disk, makes no request, and shows a run match by match.

All that it shows is in it: the figures as compressed JSON, the pictures as one sheet, the program as it stands in
pages/explorer.js. Text of the data never becomes markup: it is put into the page as text alone.
"""

import base64
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from xsae.data import drawing, scenes
from xsae.data.pictures import pictures_of
from xsae.data.store import EmbeddingStore
from xsae.methods import METHODS
from xsae.report import templates
from xsae.report.explorer_data import LABELS, MOST_ITEMS, MOST_MATCHES, View, items

SHOWN = ("posthoc", "shared")  # methods, the first seen first
SIDE = 64  # pixels of a picture, at most
LONGEST = 300  # letters of a caption; the rest is cut

Settings = Mapping[str, Any]  # backbone, method, seed, bias_start, modality: the one seen beside the reference


def pictures(store: EmbeddingStore, embeddings: str = "") -> np.ndarray | None:
    """Pictures of `items`, uint8 (n, h, w, 3), if there are any: scenes drawn again, or those of your own file.

    embeddings: path of your own `.npz`; empty for the embedded world. Raises what `pictures_of` raises.
    """
    reference, shown = store.modalities[0], items(store)
    if store.manifest["source"].startswith("scenes, "):
        first, n = (store.rows("image", "test")[place] for place in (0, -1))
        drawn = scenes.sample(n + 1 - first, scenes.SPLIT_SEEDS["test"])
        return drawing.render(drawn, shown["image"].to_numpy() - first)
    if not embeddings:
        return None
    return pictures_of(Path(embeddings), shown[reference].to_numpy(), len(store[reference]), reference, SIDE)


def table(views: Sequence[tuple[Settings, View]]) -> pd.DataFrame:
    """The matches that are shown, a line each: `backbone`, `method`, `bias_start`, `seed`, and `View.matches`."""
    return pd.concat([view.matches.assign(**settings) for settings, view in views], ignore_index=True)


def page(
    facts: Mapping[str, Any],
    stores: Mapping[str, EmbeddingStore],
    views: Sequence[tuple[Settings, View]],
    alphas: Sequence[float],
    shown: np.ndarray | None,
) -> str:
    """The page of the views, on the stores of a run by backbone.

    facts: of the run (`provenance.facts`). alphas: those that the views were steered by. shown: `pictures` of the
    items, which all stores have in common; ValueError where they have not. The same arguments give the same page.
    """
    store, *others = stores.values()
    if any(not items(store)[["caption"]].equals(items(another)[["caption"]]) for another in others):
        raise ValueError(
            f"explorer: the stores of {', '.join(stores)} hold out different pairs; one page shows one set"
        )
    sheet, about = _sheet(shown) if shown is not None else ("", None)
    data = {"alphas": list(alphas), "modalities": store.modalities, "picture": about, **_items(items(store))}
    data["views"] = [_view(settings, view, store.modalities[0]) for settings, view in views]
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return templates.render(
        "explorer.html",
        facts=facts,
        sheet=sheet,
        data=base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode(),
        sample=_sample(store, views),
        reference=store.modalities[0],
        pairs=len(items(store)),
        start=views[0][0]["bias_start"],
    )


def _sample(store: EmbeddingStore, views: Sequence[tuple[Settings, View]]) -> str:
    """What is left out, in words; nothing if nothing is."""
    said, most = [], max(view.of for _, view in views)
    if most > MOST_MATCHES:
        said.append(f"{MOST_MATCHES} matches of up to {most}, taken evenly from the strongest to the weakest")
    if len(items(store)) == MOST_ITEMS:
        said.append(f"{MOST_ITEMS} held-out pairs, taken evenly")
    return "; ".join(said)


def _items(shown: pd.DataFrame) -> dict[str, Any]:
    """Captions of the items, and the concepts that each holds, by number; none where there are none."""
    captions = shown["caption"].astype(str).tolist() if "caption" in shown else []
    holds = shown[LABELS["image"]].tolist() if LABELS["image"] in shown else []
    concepts = sorted(set().union(*holds)) if holds else []
    place = {concept: number for number, concept in enumerate(concepts)}
    cut = [caption if len(caption) <= LONGEST else caption[:LONGEST] + "…" for caption in captions]
    return {"captions": cut, "concepts": concepts, "holds": [sorted(place[label] for label in row) for row in holds]}


def _view(settings: Settings, view: View, reference: str) -> dict[str, Any]:
    """A view as the page reads it: columns, and of what each side has a pair, the reference's first."""
    sides, matches = (reference, settings["modality"]), view.matches
    return {
        **{name: settings[name] for name in ("backbone", "method", "seed", "modality")},
        "title": METHODS[settings["method"]].label,
        "of": view.of,
        "floor": _rounded(view.floor),
        "latent": matches["latent"].tolist(),
        "partner": matches["partner"].tolist(),
        **{name: _rounded(matches[name]) for name in ("correlation", "gap")},
        "label": [matches[f"{m}_label"].tolist() for m in sides],
        **{name: [_rounded(matches[f"{m}_{name}"]) for m in sides] for name in ("purity", "rate")},
        **{name: [getattr(view, name)[m] for m in sides] for name in ("top",)},
        "activation": [[_rounded(values) for values in view.activation[m]] for m in sides],
        "histogram": [view.histogram[m].tolist() for m in sides],
        "largest": [_rounded(view.largest[m]) for m in sides],
        "places": [_rounded(place) for place in view.places],
        "steered": [
            {name: _rounded(value) if name in ("preservation", "mAP") else value for name, value in steered.items()}
            for steered in view.steered
        ],
    }


def _rounded(values: Any) -> Any:
    """Numbers to three decimals, as JSON has them: NaN is null."""
    if np.ndim(values) == 0:
        return round(float(values), 3) if np.isfinite(values) else None
    return [_rounded(value) for value in np.asarray(values, dtype=np.float64)]


def _sheet(shown: np.ndarray) -> tuple[str, dict[str, int]]:
    """All pictures on one sheet, row by row, as a data URI, and its columns and the size of a picture in pixels."""
    height, width = shown.shape[1:3]
    scale = min(SIDE / max(height, width), 1)
    height, width = max(round(height * scale), 1), max(round(width * scale), 1)
    columns = int(np.ceil(np.sqrt(len(shown))))
    sheet = Image.new("RGB", (columns * width, -(-len(shown) // columns) * height))
    for place, picture in enumerate(shown):
        small = Image.fromarray(picture).resize((width, height)) if scale < 1 else Image.fromarray(picture)
        sheet.paste(small, (place % columns * width, place // columns * height))
    file = io.BytesIO()
    sheet.save(file, "WEBP", quality=40, method=4)
    uri = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    return uri, {"columns": columns, "rows": -(-len(shown) // columns), "width": width, "height": height}
