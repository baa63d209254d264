"""From sources to a store of embeddings, in parts: a part that is finished is never done again, or done twice.

    <out>.parts/0-00017/    part 17 of the first source: image.npy, text.npy (float32, as the model gave them),
                            pairs.parquet (`image`, `text`: rows of the part), skipped.csv, part.json (sizes, sha256)

A part appears under its name when all of it is on the disk; what a kill leaves has another name and is done again. The
batches of a part are its own, so that its bytes do not depend on what was done before it, or by which job. Merged,
the parts become one store, and go.
"""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from xsae.data.coco import mentions
from xsae.data.encoders import Encoder, resolve
from xsae.data.pictures import opened_image
from xsae.data.samples import Sample, Skipped, Source
from xsae.data.sources import open_source
from xsae.data.store import STORE, EmbeddingStore, open_store, write_store
from xsae.disk import files, markers

MODALITIES = ("image", "text")
PART = markers.Kind("part of an extraction", "part.json", "xsae.part.1")
_SKIPPED = ("source", "part", "key", "reason")


class Extraction:
    """One model over some sources into one store.

    model: a name that `Encoder.load` takes; it is loaded when a part needs it. sources: as `open_source` takes them.
    """

    def __init__(self, model: str, sources: Sequence[str], out: Path) -> None:
        self.model, self.out = model, Path(out)
        self.model_name = ":".join(part for part in resolve(model) if part)
        self.sources: list[Source] = [open_source(spec) for spec in sources]
        self.source_name = " + ".join(source.name for source in self.sources)
        self.parts = [(s, part) for s, source in enumerate(self.sources) for part in range(source.n_parts)]

    def folder(self, source: int, part: int) -> Path:
        """Where a part is kept until the merge."""
        return self.out.with_name(f"{self.out.name}.parts") / f"{source}-{part:05d}"

    def extract(self, job: int = 0, jobs: int = 1, workers: int | None = None, encoder: Encoder | None = None) -> None:
        """Embed the parts job, job + jobs, ... that are not there yet; nothing at all where the store is.

        workers: processes that decode images, all cores but one by default; encoder: the model, if it is loaded.
        Raises ValueError where parts or a store of another model or source are in the way; OSError where the disk is
        full or the network fails.
        """
        wanted = self.parts[job::jobs]
        missing = [] if self._finished() else [at for at in wanted if not self._part_there(*at)]
        if not missing:
            return
        encoder = encoder or Encoder.load(self.model)
        workers = max((os.cpu_count() or 2) - 1, 1) if workers is None else workers
        bar = tqdm(desc=f"embed with {self.model}", unit=" samples", mininterval=1)
        for done, part in enumerate(_embed(encoder, self.sources, missing, workers, bar), 1):
            at = missing[done - 1]
            part.write(self.folder(*at), self._about(*at))
            bar.total = round(bar.n / done * len(missing))  # parts are alike, and not all sources know their length
            bar.refresh()
        bar.close()

    def merge(self) -> EmbeddingStore:
        """Make one store of all parts, and remove them.

        Raises FileNotFoundError naming a part that is missing, ValueError one that was altered.
        """
        if self._finished():
            files.sweep(self.out)  # of a merge that was killed at its very end
            self._remove_parts()
            return open_store(self.out)
        for at in self.parts:
            if not self._part_there(*at):
                raise FileNotFoundError(f"{self.folder(*at)}: not there yet; run the job that makes it")
        pieces: dict[str, list[np.ndarray]] = {name: [] for name in MODALITIES}
        pairs, skipped, first = [], [], dict.fromkeys(MODALITIES, 0)
        for at in tqdm(self.parts, "merge"):
            folder = self.folder(*at)
            try:
                markers.opened(folder, PART)
            except ValueError as error:
                raise ValueError(f"{error}; remove {folder} and extract again") from None
            table = pd.read_parquet(folder / "pairs.parquet")
            for name in MODALITIES:
                table[name] += first[name]
                piece = np.load(folder / f"{name}.npy", mmap_mode="r")
                if len(piece):
                    pieces[name].append(piece)
                first[name] += len(piece)
            pairs.append(table)
            skipped += list(csv.reader((folder / "skipped.csv").open(newline="")))[1:]
        joined = pd.concat(pairs, ignore_index=True)
        labels = tuple(sorted({label for held in joined["concepts"] for label in held if label.startswith("object:")}))
        if labels:  # of objects it is the words that count, so captions of a source without labels name them too
            joined["mentions"] = [list(mentions(caption, labels)) for caption in joined["caption"]]
        for name in ("concepts", "mentions"):  # of no use where no source has any
            if not joined[name].map(len).any():
                del joined[name]
        if not len(joined):
            raise ValueError(f"{self.source_name}: no sample could be embedded; {len(skipped)} were skipped")
        reasons = Counter(reason for *_, reason in skipped)
        about = {"skipped": {"count": len(skipped), "reasons": dict(sorted(reasons.items())), "samples": skipped}}
        store = write_store(self.out, pieces, joined, model=self.model_name, source=self.source_name, about=about)
        self._remove_parts()
        return store

    def _remove_parts(self) -> None:
        """Remove the parts, and their folder where nothing else is in it."""
        for at in self.parts:
            files.remove(self.folder(*at), PART)
        with suppress(OSError):
            self.folder(0, 0).parent.rmdir()

    def _finished(self) -> bool:
        """Whether the store is there already, made of what is asked for."""
        if not (self.out / STORE.marker).is_file():
            files.check_free(self.out, STORE)
            return False
        manifest = open_store(self.out).manifest
        found = (manifest["model"], manifest["source"])
        if found != (self.model_name, self.source_name):
            raise ValueError(f"{self.out}: holds {' of '.join(found)}; choose another folder, or remove it")
        return True

    def _part_there(self, source: int, part: int) -> bool:
        folder = self.folder(source, part)
        if not (folder / PART.marker).is_file():
            files.check_free(folder, PART)
            return False
        said = markers.opened(folder, PART, hashed=False)
        about = {name: said.get(name) for name in self._about(source, part)}
        if about != self._about(source, part):
            raise ValueError(f"{folder}: made of {about}; remove {folder.parent} to begin anew")
        return True

    def _about(self, source: int, part: int) -> dict:
        return {"model": self.model_name, "source": self.sources[source].name, "part": part}


@dataclass
class _Part:
    """What was embedded of a part so far."""

    rows: dict[str, list[np.ndarray]] = field(default_factory=lambda: {name: [] for name in MODALITIES})
    pairs: list[tuple] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    images: int = 0

    def write(self, folder: Path, about: dict) -> None:
        """Write the part's folder, whole or not at all."""
        with files.folder(folder, PART) as partial:
            for name, rows in self.rows.items():
                np.save(partial / f"{name}.npy", np.concatenate(rows) if rows else np.empty((0, 0), np.float32))
            columns = ["image", "text", "split", "key", "caption", "concepts", "mentions"]
            frame = pd.DataFrame(self.pairs, columns=columns).astype({"image": np.int64, "text": np.int64})
            frame.to_parquet(partial / "pairs.parquet", index=False)
            with (partial / "skipped.csv").open("w", newline="") as file:
                rows = ((about["source"], about["part"], *skip) for skip in self.skipped)
                csv.writer(file, lineterminator="\n").writerows([_SKIPPED, *rows])
            markers.seal(partial, PART, about)


class _Images(Dataset):
    """Samples to preprocessed images, or to the reason why there is none; what the worker processes do."""

    def __init__(self, preprocess) -> None:
        self.preprocess = preprocess

    def __getitem__(self, sample: Sample) -> torch.Tensor | str:
        try:
            with opened_image(sample.image) as image:
                return self.preprocess(image)
        except ValueError as error:
            return str(error)


def _embed(
    encoder: Encoder, sources: Sequence[Source], parts: Sequence[tuple[int, int]], workers: int, bar: tqdm
) -> Iterator[_Part]:
    """Embed parts one after the other, the workers decoding the next part's images while this one's are embedded."""
    asked: list[tuple[list[Sample], list[Skipped], bool]] = []  # batches on their way, the oldest first

    def batches() -> Iterator[list[Sample]]:
        for source, part in parts:
            samples: list[Sample] = []
            skipped: list[Skipped] = []
            for sample in sources[source].part(part):
                if isinstance(sample, Skipped):
                    skipped.append(sample)
                    continue
                if len(samples) == encoder.batch_size:
                    asked.append((samples, skipped, False))
                    yield samples
                    samples, skipped = [], []
                samples.append(sample)
            asked.append((samples, skipped, True))
            yield samples

    loader = DataLoader(
        _Images(encoder.preprocess), batch_sampler=batches(), collate_fn=list, num_workers=workers,
        pin_memory=encoder.device == "cuda",
    )  # fmt: skip
    part = _Part()
    for images in loader:
        samples, skipped, last = asked.pop(0)
        part.skipped += [(skip.key, skip.reason) for skip in skipped]
        _add(part, encoder, samples, images)
        bar.update(len(samples))
        if last:
            yield part
            part = _Part()


def _add(part: _Part, encoder: Encoder, samples: Sequence[Sample], images: Sequence[torch.Tensor | str]) -> None:
    """Embed a batch, and note what is left out: an image that cannot be read, a caption that is empty."""
    kept, captions = [], []
    for sample, image in zip(samples, images, strict=True):
        said = [i for i, caption in enumerate(sample.captions) if caption.strip()]
        if isinstance(image, str):
            part.skipped.append((sample.key, image))
        elif not said:
            part.skipped.append((sample.key, "empty caption"))
        else:
            part.skipped += [(sample.key, "empty caption")] * (len(sample.captions) - len(said))
            for i in said:
                named = list(sample.mentions[i]) if sample.mentions else []
                place = (part.images + len(kept), len(part.pairs) + len(captions))
                captions.append((*place, sample.split, sample.key, sample.captions[i], list(sample.concepts), named))
            kept.append(image)
    if kept:
        part.rows["image"].append(encoder.images(torch.stack(kept)))
        part.rows["text"].append(encoder.texts([caption[4] for caption in captions]))
        part.images += len(kept)
        part.pairs += captions
