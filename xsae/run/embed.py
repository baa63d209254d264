"""Embed real images and captions with a vision-language model.

    python -m xsae.run.embed --model clip-b32 --source coco:/data/coco --out stores/clip-b32

makes a store of a source (see `xsae.data.sources`), in parts that survive an interruption (see `xsae.data.extraction`).
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from xsae.data import imagenet
from xsae.data.classes import write_classes
from xsae.data.encoders import MODELS, Encoder
from xsae.data.extraction import Extraction
from xsae.data.store import EmbeddingStore
from xsae.run.paths import RunPaths


def embed(model: str, source: Sequence[str], out: Path, job: str = "0/1", workers: int | None = None) -> str:
    """Embed and merge; what became of it, in one line.

    Raises ValueError or OSError, one line each; finished parts stay, and the same call goes on after them.
    """
    if not (match := job.split("/"))[0].isdigit() or len(match) != 2 or not match[1].isdigit():
        raise ValueError(f"job: {job!r} found; I/N is needed, such as 0/4")
    number, jobs = map(int, match)
    if number >= jobs:
        raise ValueError(f"job: {job!r} found; jobs of {jobs} are 0/{jobs} to {jobs - 1}/{jobs}")
    extraction = Extraction(model, source, out)
    extraction.extract(number, jobs, workers)
    if jobs > 1:
        return f"{out}: job {job} done; once all are, the same call without --job merges them"
    store = extraction.merge()
    counts = ", ".join(f"{len(store[name])} {name}s" for name in store.modalities)
    skipped = store.manifest["skipped"]["count"]
    return f"{out}: {counts}, d = {store.dim}, {skipped} samples skipped" + (" (skipped.csv)" if skipped else "")


def merged(run: str, backbone: str, model: str, sources: Sequence[str], classes: str = "") -> EmbeddingStore:
    """The store of a run's backbone, from what its jobs embedded and what they have left; with the zero-shot classes of
    a source `imagenet:FOLDER`, where one is named and they are not there yet."""
    paths = RunPaths(run)
    extraction = Extraction(model, sources, paths.embeddings(backbone))
    extraction.extract()
    store = extraction.merge()
    if classes and not paths.classes(backbone).exists():
        encoder = Encoder.load(model)
        extraction = Extraction(model, [classes], paths.artifacts / "classes" / backbone)
        extraction.extract(encoder=encoder)
        found = imagenet.classes(encoder, extraction.merge())
        labels, about = found["class_label"][:, None], {"model": encoder.name, "source": classes}
        write_classes(paths.classes(backbone), found["class_image"], found["class_text"], labels, **about)
    return store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help=f"{', '.join(MODELS)}, or what Encoder.load takes")
    parser.add_argument("--source", required=True, nargs="+", help="KIND:WHERE[@SPLIT]; several are joined")
    parser.add_argument("--out", required=True, type=Path, help="folder of the store")
    parser.add_argument("--job", default="0/1", help="I/N: the parts I, I+N, ... alone; a call without it merges")
    parser.add_argument("--workers", type=int, help="processes that decode images; all cores but one by default")
    arguments = parser.parse_args()
    logging.disable()  # the libraries' own accounts of what the one line at the end says
    try:
        print(embed(**vars(arguments)))
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {' '.join(str(error).split())}\n")


if __name__ == "__main__":
    main()
