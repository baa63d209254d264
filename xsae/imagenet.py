"""ImageNet's images and classes in the space of an open_clip model, added to your own embeddings for zero-shot.

    python -m xsae.imagenet --model ViT-B-32 --pretrained openai --images imagenet/val --into my.npz

The folder holds one folder of images per class, named by its synset (n01440764, …), as ImageNet's validation set is
usually laid out; classes without a folder are not asked for. Names and templates are open_clip's (Radford et al. 2021).
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from timm.data import ImageNetInfo
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from tqdm.auto import tqdm

from xsae.classes import average_templates
from xsae.embeddings import read_npz


def prompts(synsets: list[str]) -> list[list[str]]:
    """The 80 prompts of each class, by synset. Raises ValueError for one that is not among ImageNet's 1,000."""
    names = dict(zip(ImageNetInfo("imagenet-1k").label_names(), open_clip.IMAGENET_CLASSNAMES, strict=True))
    if unknown := [synset for synset in synsets if synset not in names]:
        raise ValueError(f"imagenet: folder {unknown[0]!r} is none of its 1,000 synsets, such as n01440764")
    return [[template(names[synset]) for template in open_clip.OPENAI_IMAGENET_TEMPLATES] for synset in synsets]


@torch.inference_mode()
def embed(
    model: torch.nn.Module, preprocess: Callable, tokenizer: Callable, folder: Path, batch_size: int = 128
) -> dict[str, np.ndarray]:
    """The three arrays that `xsae.classes.read_classes` reads: `class_text`, `class_image`, `class_label`.

    Args:
        model, preprocess, tokenizer: an open_clip model in eval mode, its evaluation transform and its tokenizer.
        folder: a folder of images per synset.

    Raises:
        FileNotFoundError, ValueError: no such folder, no image in a class, or a folder that is no synset.
    """
    images = ImageFolder(str(folder), preprocess)
    asked, device = prompts(images.classes), next(model.parameters()).device
    texts = [model.encode_text(tokenizer(own).to(device)).float().cpu().numpy() for own in tqdm(asked, "embed classes")]
    loader = DataLoader(images, batch_size, num_workers=min(os.cpu_count() or 1, 8))
    rows = [model.encode_image(batch.to(device)).float().cpu().numpy() for batch, _ in tqdm(loader, "embed images")]
    return {
        "class_text": average_templates(np.stack(texts)),
        "class_image": np.concatenate(rows),
        "class_label": np.array(images.targets),
    }


def add(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Put arrays into an `.npz`, in the place of those that have their names; the old file stays until it is whole."""
    with np.load(file, allow_pickle=False) as data:
        kept = {name: data[name] for name in data.files if name not in arrays}
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, **kept, **arrays)
    os.replace(partial, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a name that open_clip.list_models() gives")
    parser.add_argument("--pretrained", required=True, help="a tag of open_clip.list_pretrained(), or a checkpoint")
    parser.add_argument("--images", type=Path, required=True, help="a folder of images per synset")
    parser.add_argument("--into", type=Path, required=True, help="your .npz, made with the same model")
    arguments = parser.parse_args()
    try:
        dim = read_npz(arguments.into)["image"].shape[1]
        model, _, preprocess = open_clip.create_model_and_transforms(arguments.model, arguments.pretrained)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        tokenizer = open_clip.get_tokenizer(arguments.model)
        if (found := model.encode_text(tokenizer(["a photo"])).shape[1]) != dim:
            raise ValueError(f"{arguments.model}: {found} dimensions, {arguments.into} has {dim}; use the same model")
        arrays = embed(model.eval().to(device), preprocess, tokenizer, arguments.images)
        add(arguments.into, arrays)
    except (ValueError, OSError, RuntimeError) as error:
        parser.exit(2, f"error: {str(error).splitlines()[0]}\n")
    shown = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    print(f"{arguments.into}: added {shown}")


if __name__ == "__main__":
    main()
