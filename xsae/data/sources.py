"""Where images and captions come from, one contract for all: a source is a fixed sequence of parts, a part of samples.

| kind | where | splits |
|---|---|---|
| `folder:FILE.csv`, `.jsonl` | columns `file_name` (beside the file), `caption` or a list `captions`, optional `split` | that column, else a fifth of the images is held out |
| `coco:FOLDER` | Karpathy's `dataset_coco.json`, the images in `train2014/`, `val2014/`; concepts from `annotations/instances_*2014.json` where they are there | Karpathy's: train and restval, test; val is left out |
| `webdataset:PATTERN` | tar files, local or `hf://datasets/ORG/NAME/*.tar`, each sample an image and a `.txt`, through `datasets` | train |
| `cc3m` | the hub's copy of CC3M, `webdataset:` by another name; `cc3m:PATTERN` for a local one | train |
| `imagenet:FOLDER` | a folder of images per synset; the caption is "a photo of a" and the class | test |
| `scenes:N` | N drawn training scenes of the embedded world, and a tenth as many held out | its own |

`@train` or `@test` at the end takes that split alone; a source without splits of its own becomes that split.
"""  # noqa: E501 (a table)

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
from datasets import Features, IterableDataset, Value, load_dataset
from datasets.packaged_modules.webdataset import webdataset
from fsspec.core import url_to_fs
from PIL import Image
from timm.data import ImageNetInfo
from torchvision.datasets import ImageFolder

from xsae.data import drawing, world
from xsae.data.checks import SPLITS
from xsae.data.coco import coco
from xsae.data.samples import Listed, Sample, Skipped, Source, caption_of

webdataset.WebDataset.DECODERS = {}  # of `datasets`: a member that it cannot decode would end its shard
CC3M = "hf://datasets/pixparse/cc3m-wds/cc3m-train-*.tar"  # 576 shards, 2,905,954 of 3,318,333 pairs (its card)
_IMAGES = ("jpg", "jpeg", "png", "webp")


def open_source(spec: str) -> Source:
    """The source that `KIND:WHERE[@SPLIT]` names. Raises ValueError or FileNotFoundError, one line, for what it is
    not."""
    body, at, split = spec.rpartition("@")
    body, split = (body, split) if at and split in SPLITS else (spec, "")
    kind, _, where = body.partition(":")
    if kind not in _KINDS:
        raise ValueError(f"source: {spec!r} is unknown; KIND:WHERE[@SPLIT] with one of {', '.join(_KINDS)} is needed")
    return _KINDS[kind](spec, where, split)


class WebDataset:
    """Tar files, a part each. What follows an unreadable member of a shard is left out, and that is reported."""

    def __init__(self, name: str, where: str, split: str) -> None:
        self.name, self.split = name, split or "train"
        # Named here, for `datasets` would infer the fields from the first samples and fail where later ones differ.
        fields = {"__key__": Value("string"), "txt": Value("binary"), **dict.fromkeys(_IMAGES, Value("binary"))}
        try:
            files, pattern = url_to_fs(where)
            if not files.glob(pattern):  # `datasets` would take that for an empty shard
                raise FileNotFoundError("nothing is there by that name")
            self._shards: IterableDataset = load_dataset(
                "webdataset", data_files=where, features=Features(fields), split="train", streaming=True
            )
        except Exception as error:  # no such file, no network, no access: each library below has its own kinds
            raise FileNotFoundError(f"{name}: no shards ({' '.join(str(error).split())[:200]})") from None
        self.n_parts = self._shards.num_shards

    def part(self, index: int) -> Iterator[Sample | Skipped]:
        """The samples of a shard. Raises OSError where network or disk fail, which says nothing of the shard."""
        key = "the first sample"
        try:
            for row in self._shards.shard(num_shards=self.n_parts, index=index):
                key = row["__key__"]
                found = [row[field] for field in _IMAGES if row[field] is not None]
                if len(found) != 1:
                    yield Skipped(key, f"{len(found)} images in the sample")
                    continue
                try:
                    yield Sample(key, found[0], ((row["txt"] or b"").decode(),), self.split)
                except UnicodeDecodeError:
                    yield Skipped(key, "caption is not UTF-8")
        except (tarfile.TarError, ValueError) as error:
            yield Skipped(f"shard {index} after {key}", f"unreadable: {' '.join(str(error).split())[:100]}")
        except Exception as error:
            raise OSError(f"{self.name}: shard {index}: {' '.join(str(error).split())[:200]}") from None


def folder(name: str, where: str, split: str) -> Listed:
    """Images listed in a CSV or JSONL file that lies beside them."""
    file = Path(where)
    if not file.is_file() or file.suffix not in (".csv", ".jsonl"):
        raise FileNotFoundError(f"{name}: a .csv or .jsonl file with the columns `file_name` and `caption` is needed")
    table = _table(name, file)
    text = "captions" if "captions" in table and file.suffix == ".jsonl" else "caption"
    for column in ("file_name", text):
        if column not in table:
            raise ValueError(f"{name}: column `{column}` is missing; found {', '.join(map(str, table.columns))}")
    if not all(isinstance(name, str) and name for name in table["file_name"]):
        raise ValueError(f"{name}: column `file_name` must hold a name in every row")
    captions = table[text].map(lambda cell: tuple(map(caption_of, cell if isinstance(cell, list) else [cell])))
    grouped = captions.groupby(table["file_name"], sort=False).sum()  # a row each, or a row per image
    if "split" in table:
        if unknown := set(map(str, table["split"])) - set(SPLITS):
            raise ValueError(f"{name}: split {sorted(unknown)[0]!r} is unknown; one of {', '.join(SPLITS)}")
        of_one = table.groupby("file_name", sort=False)["split"].nunique()
        if (of_one > 1).any():
            raise ValueError(f"{name}: {of_one.idxmax()} is in two splits; an image belongs to one")
        splits = table.groupby("file_name", sort=False)["split"].first()
    else:
        held = np.random.default_rng(0).permutation(len(grouped)) < len(grouped) // 5
        splits = pd.Series(np.where(held & (not split), "test", split or "train"), index=grouped.index)
    kept = [image for image in grouped.index if splits[image] == split or not split]

    def sample(i: int) -> Sample:
        return Sample(kept[i], str(file.parent / kept[i]), grouped[kept[i]], splits[kept[i]])

    return Listed(name, len(kept), sample)


def _table(name: str, file: Path) -> pd.DataFrame:
    """The rows of a CSV or JSONL file, all of it as it is written: no name is a number, no caption a date.

    Raises ValueError, one line, where it is neither.
    """
    try:
        if file.suffix == ".csv":
            return pd.read_csv(file, keep_default_na=False, dtype=str)
        rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:  # of pandas' and json's readers, and of the encoding
        raise ValueError(f"{name}: not readable: {' '.join(str(error).split())[:200]}") from None
    if wrong := [row for row in rows if not isinstance(row, dict)]:
        raise ValueError(f"{name}: not readable: a line holds {wrong[0]!r:.60}; an object is needed")
    return pd.DataFrame(rows, dtype=object)


def imagenet(name: str, where: str, split: str) -> Listed:
    """ImageNet's images, their concept `class:SYNSET`."""
    try:
        images = ImageFolder(where)
    except OSError as error:
        raise FileNotFoundError(f"{name}: {' '.join(str(error).split())}") from None
    named = imagenet_names(images.classes)

    def sample(i: int) -> Sample:
        path, label = images.samples[i]
        key = f"{images.classes[label]}/{Path(path).name}"
        return Sample(
            key, path, (f"a photo of a {named[label]}",), split or "test", (f"class:{images.classes[label]}",)
        )

    return Listed(name, len(images.samples), sample)


def imagenet_names(synsets: Sequence[str]) -> list[str]:
    """open_clip's name of each synset. Raises ValueError for one that is not among ImageNet's 1,000."""
    names = dict(zip(ImageNetInfo("imagenet-1k").label_names(), open_clip.IMAGENET_CLASSNAMES, strict=True))
    if unknown := [synset for synset in synsets if synset not in names]:
        raise ValueError(f"imagenet: folder {unknown[0]!r} is none of its 1,000 synsets, such as n01440764")
    return [names[synset] for synset in synsets]


def drawn(name: str, where: str, split: str) -> Listed:
    """The embedded world's scenes as PNG files in memory."""
    if not where.isdigit() or int(where) < 10:
        raise ValueError(f"{name}: a number of training scenes, at least 10, is needed")
    splits, pairs = world.draw(int(where), int(where) // 10)
    first = {"train": 0, "test": len(splits["train"])}
    groups = pairs[pairs["split"].isin([split] if split else SPLITS)].groupby("image", sort=True)
    rows = [(image, group) for image, group in groups]

    def sample(i: int) -> Sample:
        image, group = rows[i]
        part = group["split"].iloc[0]
        file = io.BytesIO()
        Image.fromarray(drawing.render(splits[part], np.array([image - first[part]]))[0]).save(file, "PNG")
        return Sample(
            f"scene {image}", file.getvalue(), tuple(group["caption"]), part,
            tuple(group["concepts"].iloc[0]), tuple(map(tuple, group["mentions"])),
        )  # fmt: skip

    return Listed(name, len(rows), sample)


_KINDS: dict[str, Callable[[str, str, str], Source]] = {
    "folder": folder,
    "coco": coco,
    "webdataset": WebDataset,
    "cc3m": lambda name, where, split: WebDataset(name, where or CC3M, split),
    "imagenet": imagenet,
    "scenes": drawn,
}
