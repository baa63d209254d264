"""ImageNet's images and classes in the space of a vision-language model, for zero-shot classification.

    python -m xsae.data.imagenet --model clip-b32 --images imagenet/val --into my.npz

adds them to your own embeddings. The folder holds one folder of images per class, named by its synset (n01440764, …),
as ImageNet's validation set is usually laid out; classes without a folder are not asked for. Names and templates are
open_clip's (Radford et al. 2021).
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import open_clip
from tqdm.auto import tqdm

from xsae.data.classes import average_templates
from xsae.data.encoders import Encoder
from xsae.data.extraction import Extraction
from xsae.data.own import read_npz
from xsae.data.sources import imagenet_names
from xsae.data.store import STORE, EmbeddingStore
from xsae.disk import files


def prompts(synsets: list[str]) -> list[list[str]]:
    """The 80 prompts of each class, by synset. Raises ValueError for one that is not among ImageNet's 1,000."""
    return [[template(name) for template in open_clip.OPENAI_IMAGENET_TEMPLATES] for name in imagenet_names(synsets)]


def classes(encoder: Encoder, images: EmbeddingStore) -> dict[str, np.ndarray]:
    """The three arrays that `xsae.data.classes.read_classes` reads, `class_text`, `class_image`, `class_label`.

    images: a store made of the source `imagenet:FOLDER` with the same model.
    """
    synset = images.pairs.sort_values("image")["concepts"].str[0].str.removeprefix("class:")
    synsets, labels = np.unique(synset, return_inverse=True)
    asked = [encoder.texts(texts) for texts in tqdm(prompts(synsets.tolist()), "embed classes")]
    return {
        "class_text": average_templates(np.stack(asked)),
        "class_image": images.raw("image"),
        "class_label": labels,
    }


def add(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Put arrays into an `.npz`, in the place of those that have their names; the old file stays until it is whole."""
    with np.load(file, allow_pickle=False) as data:
        kept = {name: data[name] for name in data.files if name not in arrays}
    with files.file(file) as partial:
        np.savez(partial, **kept, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="as `python -m xsae.run.embed` takes it")
    parser.add_argument("--images", type=Path, required=True, help="a folder of images per synset")
    parser.add_argument("--into", type=Path, required=True, help="your .npz, made with the same model")
    arguments = parser.parse_args()
    logging.disable()  # the libraries' own accounts of what the one line at the end says
    try:
        dim = read_npz(arguments.into, ("image", "text"))["image"].shape[1]  # classes are texts, of images
        extraction = Extraction(
            arguments.model, [f"imagenet:{arguments.images}"], arguments.into.with_suffix(".imagenet")
        )
        encoder = Encoder.load(arguments.model)
        if encoder.dim != dim:
            raise ValueError(
                f"{encoder.name}: {encoder.dim} dimensions, {arguments.into} has {dim}; use the same model"
            )
        extraction.extract(encoder=encoder)
        arrays = classes(encoder, extraction.merge())
        add(arguments.into, arrays)
        files.remove(extraction.out, STORE)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {' '.join(str(error).split())}\n")
    shown = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    print(f"{arguments.into}: added {shown}")


if __name__ == "__main__":
    main()
