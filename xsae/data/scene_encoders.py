"""Small contrastive image-text encoders, made of open_clip's own model classes, that turn scenes into embeddings.

The weights ship with the package (`xsae/data/weights/`). They were made, and can be made again, by

    python -m xsae.data.scene_encoders vit    --out xsae/data/weights
    python -m xsae.data.scene_encoders resnet --out xsae/data/weights

Training is CLIP's: the symmetric contrastive loss (Radford et al. 2021, Fig. 3), one random caption per image and
epoch. CLIP learns its logit scale, from 1/0.07 up to the bound of 100; a small world never drives it that high, so here
it is a schedule (`final_scale`). The scenes seen here (seed 1) are never those the SAEs see.
"""

import argparse
import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from xsae import files
from xsae.data import scenes

WEIGHTS = Path(__file__).parent / "weights"
EMBED_DIM = 128
CONTEXT_LENGTH = 24
_TEXT = {"width": 128, "heads": 4, "layers": 3, "context_length": CONTEXT_LENGTH}
_VISION = {
    "vit": {"layers": 4, "width": 160, "head_width": 32, "patch_size": 16},
    "resnet": {"layers": (1, 1, 1, 1), "width": 20, "head_width": 32},
}
BACKBONES = tuple(_VISION)


@dataclass(frozen=True)
class EncoderTraining:
    """How an encoder is trained; the defaults made the shipped weights."""

    n_scenes: int = 80_000
    captions_per_image: int = 5
    epochs: int = 9
    batch_size: int = 256
    learning_rate: float = 1.0e-3
    weight_decay: float = 0.1
    warmup: float = 0.05
    scale_ramp: float = 0.4  # share of the steps over which the logit scale goes from 1/0.07 to `final_scale`
    seed: int = 1


class Tokenizer:
    """Words of the scene grammar to integers: 0 pads, 1 is an unknown word, 2 starts, the largest id ends.

    open_clip's text tower reads the embedding at the largest id, hence the place of the end token.
    """

    def __init__(self) -> None:
        self.ids = {word: i for i, word in enumerate(scenes.vocabulary(), start=3)}
        self.end = len(self.ids) + 3
        self.vocab_size = self.end + 1

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """int64 (len(texts), 24); longer captions are cut."""
        tokens = np.zeros((len(texts), CONTEXT_LENGTH), np.int64)
        for row, text in enumerate(texts):
            words = [self.ids.get(word, 1) for word in text.lower().split()][: CONTEXT_LENGTH - 2]
            tokens[row, : len(words) + 2] = [2, *words, self.end]
        return torch.from_numpy(tokens)


def build(name: str) -> open_clip.CLIP:
    """An untrained encoder. Raises ValueError for a name that is not in `BACKBONES`."""
    if name not in _VISION:
        raise ValueError(f"backbone: {name!r} is unknown; one of {', '.join(BACKBONES)}")
    return open_clip.CLIP(
        embed_dim=EMBED_DIM,
        vision_cfg={"image_size": scenes.IMAGE_SIZE, **_VISION[name]},
        text_cfg={"vocab_size": Tokenizer().vocab_size, **_TEXT},
    )


def load(name: str, folder: Path = WEIGHTS) -> open_clip.CLIP:
    """A trained encoder in eval mode, from `<folder>/<name>.safetensors` (stored as float16, computed in float32)."""
    model = build(name)
    path = Path(folder) / f"{name}.safetensors"
    if not path.is_file():
        make = f"python -m xsae.data.scene_encoders {name} --out {folder}"
        raise FileNotFoundError(f"{path}: no weights; make them with `{make}`")
    model.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    return model.eval()


def pixels(images: np.ndarray) -> torch.Tensor:
    """uint8 (n, 64, 64, 3) to float32 (n, 3, 64, 64) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def embed_images(models: Sequence[open_clip.CLIP], batches: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Embed image batches, uint8 (b, 64, 64, 3) each, with every model: per model, float32 (n, 128), not normalised.

    All models see a batch while it is in memory, so that a scene is drawn once however many backbones there are.
    """
    rows: list[list[torch.Tensor]] = [[] for _ in models]
    for batch in batches:
        x = pixels(batch)
        for model, out in zip(models, rows, strict=True):
            out.append(model.encode_image(x))
    return [torch.cat(out).numpy() for out in rows]


@torch.inference_mode()
def embed_texts(model: open_clip.CLIP, texts: Sequence[str], batch_size: int = 1024) -> np.ndarray:
    """Embed captions: float32 (len(texts), 128), not normalised."""
    tokens = Tokenizer()(texts)
    return torch.cat([model.encode_text(batch) for batch in tokens.split(batch_size)]).numpy()


def final_scale(batch_size: int) -> float:
    """The logit scale at which `batch_size` candidates ask for the cosine margin that CLIP's loss asks for.

    A caption wins against B candidates when its cosine leads by about ln(B) / scale. CLIP ends at scale 100 with
    B = 32,768: a margin of 0.104. The same margin with a batch of 256 is a scale of 53; a scale of 100 there would
    ask for half the margin, and leave matched and mismatched pairs nearer to each other than they are in CLIP.
    """
    return 100 * math.log(batch_size) / math.log(32_768)


def _logit_scale(progress: float, settings: EncoderTraining) -> float:
    """Geometric from 1/0.07 to the final scale over the first `scale_ramp` of the training, then constant."""
    share = min(progress / settings.scale_ramp, 1.0) if settings.scale_ramp > 0 else 1.0
    return (1 / 0.07) ** (1 - share) * final_scale(settings.batch_size) ** share


def train(name: str, out: Path, settings: EncoderTraining, progress: bool = True) -> Path:
    """Train encoder `name` on freshly drawn scenes and write `<out>/<name>.safetensors` (float16) and `<name>.json`.

    Returns the path of the weights. Deterministic for one machine and number of threads.
    """
    torch.manual_seed(settings.seed)
    model = build(name).train()
    world = scenes.sample(settings.n_scenes, settings.seed)
    images = np.concatenate(list(tqdm(scenes.batches(world), "draw", len(world) // 512 + 1, disable=not progress)))
    texts, _ = scenes.captions(world, settings.captions_per_image, settings.seed)
    tokens = Tokenizer()([text for own in texts for text in own]).reshape(len(world), -1, CONTEXT_LENGTH)

    parameters = [p for p in model.parameters() if p is not model.logit_scale]
    decayed = [p for p in parameters if p.ndim > 1]
    plain = [p for p in parameters if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decayed}, {"params": plain, "weight_decay": 0.0}],
        lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98), eps=1e-6, fused=True,
    )  # fmt: skip
    steps = settings.epochs * (len(world) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=steps, pct_start=settings.warmup, cycle_momentum=False
    )
    rng = np.random.default_rng(settings.seed)
    target = torch.arange(settings.batch_size)
    began, bar = time.time(), tqdm(total=steps, desc=f"train {name}", disable=not progress, mininterval=5)
    step = 0
    for _ in range(settings.epochs):
        order = rng.permutation(len(world))[: steps // settings.epochs * settings.batch_size]
        for batch in order.reshape(-1, settings.batch_size):
            words = tokens[batch, rng.integers(settings.captions_per_image, size=len(batch))]
            with torch.autocast("cpu", torch.bfloat16):
                image = model.encode_image(pixels(images[batch]))
                text = model.encode_text(words)
            image, text = F.normalize(image.float(), dim=1), F.normalize(text.float(), dim=1)
            logits = _logit_scale(step / steps, settings) * image @ text.T
            loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            step += 1
            bar.update()
            gap = (image.mean(0) - text.mean(0)).norm().item()
            matched = (image * text).sum(1).mean().item()
            bar.set_postfix_str(f"loss {loss.item():.2f}, matched {matched:.2f}, gap {gap:.2f}", refresh=False)
    bar.close()

    about = {"backbone": name, "open_clip": open_clip.__version__, "torch": torch.__version__, **asdict(settings)}
    about |= {"final_loss": round(loss.item(), 4), "minutes": round((time.time() - began) / 60, 1)}
    path = Path(out) / f"{name}.safetensors"
    with files.file(path) as partial:
        save_file({key: value.half().contiguous() for key, value in model.state_dict().items()}, partial)
    with files.file(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(about, indent=2) + "\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", choices=BACKBONES)
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    for key, default in asdict(EncoderTraining()).items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=type(default), default=default)
    arguments = vars(parser.parse_args())
    name, out = arguments.pop("backbone"), arguments.pop("out")
    print(train(name, out, EncoderTraining(**arguments)))


if __name__ == "__main__":
    main()
