"""Small contrastive image-text encoders, made of open_clip's own model classes, that turn scenes into embeddings.

The weights ship with the package (`xsae/data/weights/`); `encoder_training` made them and can make them again.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xsae.data.drawing import IMAGE_SIZE
from xsae.data.tokenizer import CONTEXT_LENGTH, Tokenizer
from xsae.disk import files

WEIGHTS = Path(__file__).parent / "weights"
EMBED_DIM = 256
_TEXT = {"width": 192, "heads": 6, "layers": 3, "context_length": CONTEXT_LENGTH}
_VISION = {
    "vit": {"layers": 4, "width": 192, "head_width": 32, "patch_size": 8},
    "resnet": {"layers": (1, 1, 1, 1), "width": 24, "head_width": 32},
}
BACKBONES = tuple(_VISION)


def build(name: str) -> open_clip.CLIP:
    """An untrained encoder. Raises ValueError for a name that is not in `BACKBONES`."""
    if name not in _VISION:
        raise ValueError(f"backbone: {name!r} is unknown; one of {', '.join(BACKBONES)}")
    return open_clip.CLIP(
        embed_dim=EMBED_DIM,
        vision_cfg={"image_size": IMAGE_SIZE, **_VISION[name]},
        text_cfg={"vocab_size": Tokenizer().vocab_size, **_TEXT},
    )


def load(name: str, folder: Path = WEIGHTS) -> open_clip.CLIP:
    """A trained encoder in eval mode, from `<folder>/<name>.safetensors` (stored as float16, computed in float32).

    Raises ValueError for an unknown name, or weights of another word list; FileNotFoundError where there are none.
    """
    model = build(name)
    path = Path(folder) / f"{name}.safetensors"
    make = f"make them with `python -m xsae.data.encoder_training {name} --out {folder}`"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no weights; {make}")
    about = json.loads(path.with_suffix(".json").read_text())
    if about.get("vocabulary") != Tokenizer().sha256:
        raise ValueError(f"{path}: the weights were trained on other words than captions have now; {make}")
    model.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    return model.eval()


def write(model: open_clip.CLIP, path: Path, about: dict) -> None:
    """Write a model's weights as float16, and beside them `about` and what they were made with."""
    with files.file(path) as partial:
        save_file({key: value.half().contiguous().cpu() for key, value in model.state_dict().items()}, partial)
    about = {"vocabulary": Tokenizer().sha256, "open_clip": open_clip.__version__, "torch": torch.__version__, **about}
    with files.file(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(about, indent=2) + "\n")


@contextmanager
def without_projection(visual: nn.Module) -> Iterator[int]:
    """For as long as it lasts, an image tower ends in its pooled features; yields how many these are."""
    if hasattr(visual, "attnpool"):
        name, instead = "attnpool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        width = visual.attnpool.c_proj.in_features
    else:
        name, instead, width = "proj", None, len(visual.proj)
    projection = getattr(visual, name)
    setattr(visual, name, instead)
    try:
        yield width
    finally:
        setattr(visual, name, projection)


def pixels(images: Tensor) -> Tensor:
    """uint8 (n, 64, 64, 3) to float32 (n, 3, 64, 64) in [-1, 1], channels last in memory."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def embed_images(models: Sequence[open_clip.CLIP], batches: Iterable[np.ndarray], n: int) -> list[np.ndarray]:
    """Embed n images, in batches uint8 (b, 64, 64, 3), with every model: per model, float32 (n, 256), not normalised.

    All models see a batch while it is in memory, so that a scene is drawn once however many backbones there are.
    """
    # One array for all: kept one by one, results would lie between what each batch needs and frees, and hold it.
    found, start = [np.empty((n, EMBED_DIM), np.float32) for _ in models], 0
    for batch in batches:
        x = pixels(torch.from_numpy(batch))
        for model, rows in zip(models, found, strict=True):
            rows[start : start + len(batch)] = model.encode_image(x).numpy()
        start += len(batch)
    return found


def encode_captions(model: open_clip.CLIP, tokens: Tensor, batch_size: int) -> Tensor:
    """Embed captions, given as tokens int64 (n, 28): (n, 256), not normalised.

    Captions of about one length go together, and only as far as the longest of them reaches: a causal transformer's
    embedding at the end token does not depend on what follows. That is less than half the work of `encode_text`.
    """
    lengths = (tokens > 0).sum(dim=1)
    order, found = lengths.argsort(stable=True), []
    for rows in order.split(batch_size):
        ends = lengths[rows]
        longest = int(ends[-1])
        x = model.token_embedding(tokens[rows, :longest]) + model.positional_embedding[:longest]
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:longest, :longest]))
        found.append(x[torch.arange(len(rows), device=x.device), ends - 1] @ model.text_projection)
    return torch.cat(found)[order.argsort()]


@torch.inference_mode()
def embed_texts(model: open_clip.CLIP, texts: Sequence[str], batch_size: int = 1024) -> np.ndarray:
    """Embed captions: float32 (len(texts), 256), not normalised."""
    return encode_captions(model, torch.from_numpy(Tokenizer()(texts)), batch_size).numpy()
