"""What extraction keeps of the encoder's own throughput, decoding, tokens, parts and all.

    python -m benchmarks.extraction

The floor is the model's forward alone, on preprocessed images and tokenised captions in memory. Ours is the whole of
`Extraction.extract` on JPEG files of 480 x 360, a caption each, from the first read to the last part on the disk.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.measure import alternate, write
from xsae.data import captions, drawing, scenes
from xsae.data.encoders import Encoder
from xsae.data.extraction import Extraction

ARCHITECTURES = ("ViT-B-32-quickgelu", "ViT-B-16-quickgelu")  # the first has the least to compute per image


def files(folder: Path, n: int) -> str:
    """`n` pictures with captions, as a source."""
    world = scenes.sample(n, seed=9)
    texts, _ = captions.captions(world, 1, seed=9)
    for row, picture in enumerate(drawing.render(world, np.arange(n))):
        Image.fromarray(picture).resize((480, 360), Image.Resampling.BICUBIC).save(folder / f"{row}.jpg", quality=90)
    names = [f"{row}.jpg" for row in range(n)]
    pd.DataFrame({"file_name": names, "caption": [caption for [caption] in texts]}).to_csv(
        folder / "own.csv", index=False
    )
    return f"folder:{folder}/own.csv@train"


def compare(architecture: str, n: int, repeats: int) -> dict:
    """One row: images a second of the forward alone and of the extraction, and the share kept."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        save_file(open_clip.create_model(architecture).state_dict(), folder / "clip.safetensors")
        model, source = f"{architecture}:{folder}/clip.safetensors", files(folder, n)
        encoder = Encoder.load(model)
        table = pd.read_csv(folder / "own.csv")
        pixels = torch.stack([encoder.preprocess(Image.open(folder / file)) for file in table["file_name"]])
        captions, turns = table["caption"].tolist(), iter(range(10**6))

        def forward() -> None:
            for start in range(0, n, encoder.batch_size):
                encoder.images(pixels[start : start + encoder.batch_size])
                encoder.texts(captions[start : start + encoder.batch_size])

        def extract() -> None:
            Extraction(model, [source], folder / str(next(turns))).extract(encoder=encoder)

        seconds = alternate({"forward": forward, "ours": extract}, repeats, warm_up=1)
    return {
        "architecture": architecture, "images": n, "device": encoder.device, "forward_per_s": n / seconds["forward"],
        "ours_per_s": n / seconds["ours"], "share_kept": seconds["forward"] / seconds["ours"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=160)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    write(
        pd.DataFrame([compare(architecture, arguments.images, arguments.repeats) for architecture in ARCHITECTURES]),
        "extraction",
    )


if __name__ == "__main__":
    main()
