"""How the scene encoders are trained: one command, on a CPU or a GPU, that goes on where it was interrupted.

    python -m xsae.data.encoder_training vit    --out xsae/data/weights
    python -m xsae.data.encoder_training resnet --out xsae/data/weights --device cuda

First the image tower learns to name what is in a scene (binary cross-entropy of a linear head, thrown away in the
end), as many CLIPs start from a supervised tower: from scratch the contrastive loss lives on backgrounds and colours
for hours. Then the image tower is locked, with a projection into the joint space that stays as it was drawn, and the
text tower learns CLIP's symmetric contrastive loss (Radford et al. 2021, Fig. 3) on partial, noisy captions, one of
five at random each time: locked-image tuning (Zhai et al. 2022). CLIP learns its logit scale, from 1/0.07 up to the
bound of 100; a small world never drives it that high, so here it is a schedule. Images and captions of the ViT are
moved to where CLIP's lie, in two cones. The SAEs never see these scenes.
"""

import argparse
import math
import shutil
import time
from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from xsae.data import cones, encoder_data
from xsae.data.scene_encoders import BACKBONES, build, encode_captions, pixels, without_projection, write
from xsae.disk import files, markers

_SHIFT = 4  # pixels; a batch is moved by up to this many
_FIRST_SCALE = 1 / 0.07
_KEEP = 250  # steps between two checkpoints
_SHARE, _PART = 20_000, 1_000  # scenes that say where embeddings lie, and how many of them are looked at together


@dataclass(frozen=True)
class EncoderTraining:
    """How an encoder is trained; `SHIPPED` has what made the shipped weights."""

    n_scenes: int = 300_000
    naming_views: int = 2_560_000  # images that the first stage looks at
    naming_batch: int = 256  # it needs many steps, for most labels are rare
    contrastive_views: int = 2_048_000  # pairs that the second stage looks at
    contrastive_batch: int = 1024  # every other pair of the batch is a wrong answer
    learning_rate: float = 1.0e-3
    weight_decay: float = 0.1
    warmup: float = 0.05  # share of each stage
    logit_scale: float = 67.0  # at the end; `same_margin` of the batch size
    scale_ramp: float = 0.4  # share of the second stage over which the scale goes from 1/0.07 to `logit_scale`
    seed: int = 1


# At a scale of 67 captions of `vit` part further from its images than CLIP's do.
SHIPPED = {"vit": EncoderTraining(logit_scale=50.0), "resnet": EncoderTraining()}


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

    def some(self) -> Tensor:
        """Rows of as many scenes as say where embeddings lie."""
        return torch.arange(min(len(self), _SHARE))

    def pictures(self, rows: Tensor, shift: tuple[int, int]) -> Tensor:
        """Pixels (b, 3, 64, 64), all moved by `shift`."""
        images = pixels(self.arrays["images"][rows])
        down, right = (_SHIFT + move for move in shift)
        size = images.shape[-1]
        images = F.pad(images, (_SHIFT,) * 4, "replicate")[..., down : down + size, right : right + size]
        return images.contiguous(memory_format=torch.channels_last)

    def labels(self, rows: Tensor) -> Tensor:
        """Float (b, N_LABELS): 1 where a scene holds what the label names."""
        codes = self.arrays["labels"][rows].long()
        named = torch.zeros(len(rows), encoder_data.N_LABELS + 1, device=codes.device).scatter_(1, codes, 1.0)
        return named[:, :-1]

    def tokens(self, rows: Tensor, caption: Tensor) -> Tensor:
        """Tokens (b, 28) of one caption each."""
        return self.arrays["tokens"][rows, caption].long()


class Stage(ABC):
    """A module that learns; `advance` makes one step. A pure function of settings and data on one machine."""

    def __init__(self, module: nn.Module, views: int, batch_size: int, data: Data, settings: EncoderTraining) -> None:
        self.module, self.data, self.settings = module, data, settings
        self.step, self.steps, self.batch_size = 0, views // batch_size, batch_size
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        groups = [
            {
                "params": [p for p in self.parameters if (p.ndim > 1) == decayed],
                "weight_decay": settings.weight_decay * decayed,
            }
            for decayed in (True, False)
        ]
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6, fused=True)

    @abstractmethod
    def loss(self, rows: Tensor, rng: np.random.Generator) -> Tensor:
        """Of the scenes `rows`; `rng` draws what else the step leaves to chance."""

    def advance(self) -> Tensor:
        """One step; returns its loss, not waited for."""
        rng = np.random.default_rng([self.settings.seed, self.step])
        rows = torch.from_numpy(rng.choice(len(self.data), self.batch_size, shuffle=False, replace=False))
        loss = self.loss(rows.to(self.device), rng)
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.step += 1
        return loss.detach()

    def _rate(self) -> float:
        """The learning rate warms up linearly, then falls to nothing as a cosine."""
        progress, warmup = (self.step + 1) / self.steps, self.settings.warmup
        fall = 0.5 + 0.5 * math.cos(math.pi * max(progress - warmup, 0.0) / (1 - warmup))
        return self.settings.learning_rate * min(progress / warmup, 1.0) * fall

    def state(self) -> dict[str, Tensor]:
        """All that a later process needs to go on with the same bytes."""
        state = {f"module.{key}": value for key, value in self.module.state_dict().items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            state |= {f"moments.{number}.{key}": value for key, value in moments.items()}
        return {key: value.contiguous() for key, value in state.items()} | {"step": torch.tensor(self.step)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""

        def part(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(f"{name}."): tensor for key, tensor in state.items() if key.startswith(f"{name}.")}

        self.module.load_state_dict(part("module"))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in part("moments").items():
            number, name = key.split(".")
            if value.ndim == 4:  # as its parameter lies: the fused optimiser pairs the two by their place in memory
                value = value.contiguous(memory_format=torch.channels_last)
            moments.setdefault(int(number), {})[name] = value
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": moments})
        self.step = int(state["step"])


class Naming(Stage):
    """The first stage: an image tower without its projection learns to name what is in a scene."""

    def __init__(self, visual: nn.Module, width: int, data: Data, settings: EncoderTraining) -> None:
        head = nn.Linear(width, encoder_data.N_LABELS)
        nn.init.constant_(head.bias, -5.0)  # nearly all labels are absent
        module = nn.Sequential(visual, head.to(next(visual.parameters()).device)).train()
        super().__init__(module, settings.naming_views, settings.naming_batch, data, settings)

    def loss(self, rows: Tensor, rng: np.random.Generator) -> Tensor:
        down, right = rng.integers(-_SHIFT, _SHIFT + 1, 2)
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.module(self.data.pictures(rows, (int(down), int(right))))
        named = self.data.labels(rows)
        return F.binary_cross_entropy_with_logits(logits.float(), named, reduction="sum") / len(rows)


class Contrast(Stage):
    """The second stage: beside a locked image tower, the text tower learns which image of a batch a caption is of."""

    def __init__(self, model: open_clip.CLIP, data: Data, settings: EncoderTraining) -> None:
        model.eval()
        model.lock_image_tower()
        model.logit_scale.requires_grad_(False)  # a schedule here
        super().__init__(model, settings.contrastive_views, settings.contrastive_batch, data, settings)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16):
            rows = torch.arange(len(data), device=self.device).split(settings.contrastive_batch)
            found = [model.encode_image(data.pictures(some, (0, 0))).float() for some in tqdm(rows, "embed")]
        self.images = F.normalize(torch.cat(found), dim=1).clone()

    def loss(self, rows: Tensor, rng: np.random.Generator) -> Tensor:
        caption = torch.from_numpy(rng.integers(encoder_data.CAPTIONS_PER_IMAGE, size=len(rows))).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            text = encode_captions(self.module, self.data.tokens(rows, caption), self.batch_size // 4)
        share = min(self.step / self.steps / self.settings.scale_ramp, 1.0)
        scale = _FIRST_SCALE ** (1 - share) * self.settings.logit_scale**share
        logits = scale * self.images[rows] @ F.normalize(text.float(), dim=1).T
        target = torch.arange(len(rows), device=self.device)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def untrained(name: str) -> open_clip.CLIP:
    """An encoder as its training begins: both image towers end in a cone, as CLIP's do (Liang et al. 2022). That of the
    convolutional one lasts; most of the other's is gone by the end of the first stage, after which `cones` has it."""
    model = build(name)
    if name == "vit":  # by this bias; the convolutional tower's features are never negative
        nn.init.normal_(model.visual.ln_post.bias)
    else:  # without queries the attention pool is a mean, as its features were pooled while they were learned
        nn.init.zeros_(model.visual.attnpool.q_proj.weight)
        nn.init.zeros_(model.visual.attnpool.q_proj.bias)
    return model.to(memory_format=torch.channels_last)


def train(name: str, out: Path, settings: EncoderTraining | None = None, device: str = "cpu") -> Path:
    """Train encoder `name` on freshly drawn scenes and write `<out>/<name>.safetensors` (float16) and `<name>.json`.

    `settings`: those of `SHIPPED` where None. Returns the path of the weights. Scenes and checkpoints lie in
    `<out>/<name>-work` until then: the same call after an interruption goes on from the last checkpoint.
    """
    began, work, settings = time.time(), Path(out) / f"{name}-work", settings or SHIPPED[name]
    data = Data(encoder_data.draw(work, settings.n_scenes), device)
    torch.manual_seed(settings.seed)
    model = untrained(name).to(device)
    with without_projection(model.visual) as width:
        _finish(Naming(model.visual, width, data, settings), work / "naming.safetensors")
    moved = name == "vit"  # the other's features, which are never negative, lie in cones already
    if moved:
        with torch.inference_mode(), without_projection(model.visual):
            features = [model.visual(data.pictures(rows, (0, 0))) for rows in data.some().split(_PART)]
        cones.place_images(model.visual, torch.cat(features), settings.seed)
    contrast = Contrast(model, data, settings)
    _finish(contrast, work / "contrast.safetensors")
    if moved:
        rows = data.some()
        with torch.inference_mode():
            captions = encode_captions(model, data.tokens(rows, torch.zeros_like(rows)), _PART)
        cones.place_captions(model, captions, contrast.images, settings.seed)
    path = Path(out) / f"{name}.safetensors"
    write(model, path, {"backbone": name, **asdict(settings), "minutes": round((time.time() - began) / 60, 1)})
    shutil.rmtree(work)
    return path


def _finish(stage: Stage, checkpoint: Path) -> None:
    """Train to the end, from the checkpoint if there is one; the last one is of the end."""
    if checkpoint.is_file():
        stage.restore(load_file(checkpoint, device=str(stage.device)))
    # on a CPU, torch's fused attention spends most of a step on its gradient in bfloat16
    plain = sdpa_kernel(SDPBackend.MATH) if stage.device.type == "cpu" else nullcontext()
    with plain, tqdm(total=stage.steps, initial=stage.step, desc=checkpoint.stem, mininterval=5) as bar:
        while stage.step < stage.steps:
            loss = stage.advance()
            bar.update()
            if stage.step % _KEEP == 0 or stage.step == stage.steps:
                bar.set_postfix_str(f"loss {loss.item():.2f}", refresh=False)
                with files.file(checkpoint) as partial:
                    save_file(stage.state(), partial)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", choices=BACKBONES)
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    for key, default in asdict(EncoderTraining()).items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=type(default), help="that of the shipped weights")
    arguments = {key: value for key, value in vars(parser.parse_args()).items() if value is not None}
    name, out, device = arguments.pop("backbone"), arguments.pop("out"), arguments.pop("device")
    print(train(name, out, replace(SHIPPED[name], **arguments), device))


if __name__ == "__main__":
    main()
