"""MS-COCO 2014 as a source: Karpathy's split, the captions, and the objects that its annotations name."""

import json
import re
from functools import cache
from pathlib import Path

from xsae.data.checks import SPLITS
from xsae.data.samples import Listed, Sample, Skipped, caption_of


def coco(name: str, where: str, split: str) -> Listed:
    """MS-COCO 2014 with Karpathy's split."""
    root = Path(where)
    try:
        listed = json.loads(_file(root / "dataset_coco.json").read_text())["images"]
        if not isinstance(listed, list):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise FileNotFoundError(
            f"{name}: {root / 'dataset_coco.json'}, Karpathy's split, is not there or not readable"
        ) from None
    ours = {"train": "train", "restval": "train", "test": "test"}
    # Without a split it cannot be told whether an entry is asked for: it is left out, and that is counted.
    asked = (split,) if split else SPLITS
    images = [image for image in listed if not _whole(image) or ours.get(image["split"], "") in asked]
    try:
        labels, holds = coco_objects(root)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"{name}: {root / 'annotations'}: not COCO's instances ({reason})") from None

    def sample(i: int) -> Sample | Skipped:
        image = images[i]
        if not _whole(image):
            known = image.get("filename") if isinstance(image, dict) else None
            return Skipped(str(known or f"entry {i}"), "no split, file name or sentences")
        captions = tuple(caption_of(sentence.get("raw")) for sentence in image["sentences"])
        return Sample(
            image["filename"],
            str(root / image["filepath"] / image["filename"]),
            captions,
            ours[image["split"]],
            tuple(sorted(holds.get(image.get("cocoid"), ()))),
            tuple(mentions(caption, labels) for caption in captions),
        )

    return Listed(name, len(images), sample)


def _whole(image: object) -> bool:
    """Whether an entry of Karpathy's split says what is needed."""
    if not isinstance(image, dict) or not isinstance(image.get("sentences"), list):
        return False
    named = all(isinstance(image.get(key), str) for key in ("filename", "filepath", "split"))
    return named and all(isinstance(sentence, dict) for sentence in image["sentences"])


def _file(path: Path) -> Path:
    """The path, if it is a file's. Raises FileNotFoundError else: to read a pipe, say, would never end."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return path


def coco_objects(root: Path) -> tuple[tuple[str, ...], dict[int, set[str]]]:
    """The object labels, `object:dog`, and those of each image by its COCO id; none where there are no annotations."""
    labels, holds = set(), {}
    for file in sorted((root / "annotations").glob("instances_*.json")):
        about = json.loads(_file(file).read_text())
        names = {category["id"]: f"object:{category['name']}" for category in about["categories"]}
        labels |= set(names.values())
        for box in about["annotations"]:
            holds.setdefault(box["image_id"], set()).add(names[box["category_id"]])
    return tuple(sorted(labels)), holds


def mentions(caption: str, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The labels whose name is in a caption, as whole words, a plural s allowed; of a hot dog, not the dog."""
    names, pattern = _pattern(labels)
    return tuple(sorted({names[found] for found in pattern.findall(caption.lower())})) if labels else ()


@cache
def _pattern(labels: tuple[str, ...]) -> tuple[dict[str, str], re.Pattern]:
    names = {label.partition(":")[2].lower(): label for label in labels}
    longest_first = sorted(names, key=len, reverse=True)
    return names, re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})s?\b")
