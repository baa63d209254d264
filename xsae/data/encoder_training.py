"""How the scene encoders are trained: one command, on a CPU or a GPU, that goes on where it was interrupted.

    python -m xsae.data.encoder_training vit    --out xsae/data/weights
    python -m xsae.data.encoder_training resnet --out xsae/data/weights --device cuda

First the image tower alone learns to name what is in a scene (binary cross-entropy of a linear head, thrown away in
the end), as many CLIPs start from a supervised tower: from scratch the contrastive loss lives on backgrounds and
colours for hours. Then both towers learn CLIP's symmetric contrastive loss (Radford et al. 2021, Fig. 3) on partial,
noisy captions, one of five at random each time. CLIP learns its logit scale, from 1/0.07 up to the bound of 100; a
small world never drives it that high, so here it is a schedule. The scenes seen here are never those the SAEs see.
"""

import argparse
import json
import math
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from xsae.data import encoder_data
from xsae.data.scene_encoders import BACKBONES, EMBED_DIM, build, pixels
from xsae.data.tokenizer import Tokenizer
from xsae.disk import files, markers

_SHIFT = 4  # pixels; a batch is moved by up to this many
_FIRST_SCALE = 1 / 0.07
_KEEP = 250  # steps between two checkpoints


@dataclass(frozen=True)
class EncoderTraining:
    """How an encoder is trained; `RECIPES` made the shipped weights."""

    n_scenes: int = 300_000
    supervised_views: int = 3_000_000  # images that the first stage looks at
    contrastive_views: int = 6_000_000  # pairs that the second stage looks at
    supervised_batch: int = 256  # of the first stage: it needs many steps, for most labels are rare
    batch_size: int = 1024  # of the second: every other pair of the batch is a wrong answer
    learning_rate: float = 1.0e-3
    image_rate: float = 1.0  # of the learning rate, for the image tower in the second stage
    weight_decay: float = 0.1
    warmup: float = 0.05  # share of each stage
    logit_scale: float = 67.0  # at the end; `same_margin` of the batch size
    scale_ramp: float = 0.4  # share of the second stage over which the scale goes from 1/0.07 to `logit_scale`
    naming_weight: float = 0.0  # of the first stage's loss in the second
    seed: int = 1


# In the second stage the image towers learn slowly and go on naming, so that they keep what they can tell apart.
RECIPES = {
    "vit": EncoderTraining(
        supervised_views=2_611_200, contrastive_views=2_252_800, image_rate=0.03, naming_weight=0.05
    ),
    "resnet": EncoderTraining(
        supervised_views=2_713_600, contrastive_views=2_662_400, image_rate=0.1, naming_weight=0.05
    ),
}


def same_margin(batch_size: int) -> float:
    """The logit scale at which `batch_size` candidates ask for the cosine margin that CLIP's loss asks for.

    A caption wins against B candidates when its cosine leads by about ln(B) / scale. CLIP ends at scale 100 with
    B = 32,768: a margin of 0.104. The same margin with a batch of 1,024 is a scale of 67.
    """
    return 100 * math.log(batch_size) / math.log(32_768)


class Data:
    """Shards in the memory of one device: `images` uint8 (n, 64, 64, 3), `tokens` (n, 5, 28), `labels` (n, 12)."""

    def __init__(self, shards: list[Path], device: str) -> None:
        n = sum(markers.tensor_shapes(shard)["labels"][1][0] for shard in shards)
        self.arrays: dict[str, Tensor] = {}
        first = 0
        for shard in tqdm(shards, "read", mininterval=5):
            for key, x in load_file(shard).items():
                if key not in self.arrays:
                    self.arrays[key] = torch.empty((n, *x.shape[1:]), dtype=x.dtype, device=device)
                self.arrays[key][first : first + len(x)] = x.to(device)
            first += len(x)

    def __len__(self) -> int:
        return len(self.arrays["labels"])

    def batch(self, rows: Tensor, caption: Tensor, shift: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels (b, 3, 64, 64), all moved by `shift`; tokens (b, 28) of one caption each; labels (b, N_LABELS)."""
        images = pixels(self.arrays["images"][rows])
        down, right = (_SHIFT + move for move in shift)
        size = images.shape[-1]
        images = F.pad(images, (_SHIFT,) * 4, "replicate")[..., down : down + size, right : right + size]
        codes = self.arrays["labels"][rows].long()
        named = torch.zeros(len(rows), encoder_data.N_LABELS + 1, device=codes.device).scatter_(1, codes, 1.0)
        tokens = self.arrays["tokens"][rows, caption].long()
        return images.contiguous(memory_format=torch.channels_last), tokens, named[:, :-1]


class Training:
    """One encoder in training; `advance` makes one step. A pure function of settings and data on one machine."""

    def __init__(self, name: str, data: Data, settings: EncoderTraining, device: str) -> None:
        torch.manual_seed(settings.seed)
        self.data, self.settings, self.device = data, settings, device
        self.model = build(name).to(device, memory_format=torch.channels_last).train()
        self.head = torch.nn.Linear(EMBED_DIM, encoder_data.N_LABELS).to(device)
        torch.nn.init.constant_(self.head.bias, -5.0)  # nearly all labels are absent
        towers = dict(self.model.named_parameters())
        towers.pop("logit_scale")  # a schedule here
        image = [p for key, p in towers.items() if key.startswith("visual.")]
        text = [p for key, p in towers.items() if not key.startswith("visual.")]
        self.image, self.parameters = image, [*image, *text, *self.head.parameters()]
        groups = [
            {
                "params": [p for p in of_tower if (p.ndim > 1) == decayed],
                "weight_decay": settings.weight_decay * decayed,
            }
            for of_tower in (image, [*text, *self.head.parameters()])
            for decayed in (True, False)
        ]
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6, fused=True)
        self.step = 0
        self.supervised = settings.supervised_views // settings.supervised_batch
        self.steps = self.supervised + settings.contrastive_views // settings.batch_size

    def advance(self) -> Tensor:
        """One step of the stage at hand; returns its loss, not waited for."""
        settings, contrastive = self.settings, self.step >= self.supervised
        size = settings.batch_size if contrastive else settings.supervised_batch
        rng = np.random.default_rng([settings.seed, self.step])
        rows = torch.from_numpy(rng.choice(len(self.data), size, shuffle=False, replace=False))
        caption = torch.from_numpy(rng.integers(encoder_data.CAPTIONS_PER_IMAGE, size=size))
        shift = tuple(int(move) for move in rng.integers(-_SHIFT, _SHIFT + 1, 2))
        images, tokens, named = self.data.batch(rows.to(self.device), caption.to(self.device), shift)
        loss = torch.zeros((), device=self.device)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16):
            image = self.model.encode_image(images)
            if settings.naming_weight or not contrastive:
                weight = settings.naming_weight if contrastive else 1.0
                logits = self.head(image).float()
                loss = loss + weight * F.binary_cross_entropy_with_logits(logits, named, reduction="sum") / len(rows)
            if contrastive:
                loss = loss + self._contrastive(image, self.model.encode_text(tokens))
        self._set_rates(contrastive)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.step += 1
        return loss.detach()

    def _contrastive(self, image: Tensor, text: Tensor) -> Tensor:
        with torch.autocast(torch.device(self.device).type, enabled=False):
            image, text = F.normalize(image.float(), dim=1), F.normalize(text.float(), dim=1)
            progress = (self.step - self.supervised) / (self.steps - self.supervised)
            share = min(progress / self.settings.scale_ramp, 1.0)
            logits = _FIRST_SCALE ** (1 - share) * self.settings.logit_scale**share * image @ text.T
            target = torch.arange(len(image), device=image.device)
            return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    def _set_rates(self, contrastive: bool) -> None:
        """Each stage warms up linearly, then falls to nothing as a cosine."""
        settings = self.settings
        first, last = (self.supervised, self.steps) if contrastive else (0, self.supervised)
        progress = (self.step - first + 1) / (last - first)
        rise = min(progress / settings.warmup, 1.0)
        fall = 0.5 + 0.5 * math.cos(math.pi * max(progress - settings.warmup, 0.0) / (1 - settings.warmup))
        rate = settings.learning_rate * rise * fall
        for number, group in enumerate(self.optimiser.param_groups):
            group["lr"] = rate * (settings.image_rate if contrastive and number < 2 else 1.0)

    def state(self) -> dict[str, Tensor]:
        """All that a later process needs to go on with the same bytes."""
        state = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        state |= {f"head.{key}": value for key, value in self.head.state_dict().items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            state |= {f"moments.{number}.{key}": value for key, value in moments.items()}
        return {key: value.contiguous() for key, value in state.items()} | {"step": torch.tensor(self.step)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""

        def part(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(f"{name}."): tensor for key, tensor in state.items() if key.startswith(f"{name}.")}

        self.model.load_state_dict(part("model"))
        self.head.load_state_dict(part("head"))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in part("moments").items():
            number, name = key.split(".")
            if value.ndim == 4:  # as its parameter lies: the fused optimiser pairs the two by their place in memory
                value = value.contiguous(memory_format=torch.channels_last)
            moments.setdefault(int(number), {})[name] = value
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": moments})
        self.step = int(state["step"])


def write(model: open_clip.CLIP, path: Path, about: dict) -> None:
    """Write a model's weights as float16, and beside them `about` and what they were made with."""
    with files.file(path) as partial:
        save_file({key: value.half().contiguous().cpu() for key, value in model.state_dict().items()}, partial)
    about = {"vocabulary": Tokenizer().sha256, "open_clip": open_clip.__version__, "torch": torch.__version__, **about}
    with files.file(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(about, indent=2) + "\n")


def train(name: str, out: Path, settings: EncoderTraining, device: str = "cpu") -> Path:
    """Train encoder `name` on freshly drawn scenes and write `<out>/<name>.safetensors` (float16) and `<name>.json`.

    Returns the path of the weights. Scenes and checkpoints lie in `<out>/<name>-work` until then: the same call after
    an interruption goes on from the last checkpoint.
    """
    work = Path(out) / f"{name}-work"
    data = Data(encoder_data.draw(work, settings.n_scenes), device)
    training = Training(name, data, settings, device)
    checkpoint = work / "checkpoint.safetensors"
    if checkpoint.is_file():
        training.restore(load_file(checkpoint, device=device))
    began, first = time.time(), training.step
    with tqdm(total=training.steps, initial=first, desc=f"train {name}", mininterval=5) as bar:
        while training.step < training.steps:
            loss = training.advance()
            bar.update()
            if training.step % _KEEP == 0:
                bar.set_postfix_str(f"loss {loss.item():.2f}", refresh=False)
                with files.file(checkpoint) as partial:
                    save_file(training.state(), partial)
    path = Path(out) / f"{name}.safetensors"
    write(training.model, path, {"backbone": name, **asdict(settings), "minutes": round((time.time() - began) / 60, 1)})
    shutil.rmtree(work)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", choices=BACKBONES)
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    for key, default in asdict(EncoderTraining()).items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=type(default), help="instead of the recipe's")
    arguments = {key: value for key, value in vars(parser.parse_args()).items() if value is not None}
    name, out, device = arguments.pop("backbone"), arguments.pop("out"), arguments.pop("device")
    print(train(name, out, replace(RECIPES[name], **arguments), device))


if __name__ == "__main__":
    main()
