"""What a run on real data sets would take, before anything is downloaded: jobs, GPU hours, disk, downloads.

Sizes of known sources are counted, not looked up: nothing here needs a network. The hours rest on two assumptions that
no run of ours has tested, `TFLOPS` and `STEP`; the plan prints them.
"""

from dataclasses import dataclass

import open_clip
import torch
from torch.utils.flop_counter import FlopCounterMode

from xsae.data.encoders import resolve
from xsae.data.sources import CC3M
from xsae.methods import METHODS, TRAINED
from xsae.run.config import AUTO, Config
from xsae.training import dictionary_size

TFLOPS = 200  # float16 operations a second, in 10^12, that an encoder is assumed to sustain on an H100-class card
STEP = 0.4e-3  # seconds of a step at d = 512, L = 8192, batch 1024, assumed of such a card; scaled by d


@dataclass(frozen=True)
class _Known:
    """A public data set: images, captions, what its files weigh, its terms, and who says so."""

    images: int
    captions: int
    size: str
    terms: str


# CC3M: the card of the hub's copy. COCO: Karpathy's test split; cocodataset.org's archives. ImageNet: image-net.org.
_KNOWN = {
    "cc3m": _Known(
        2_905_954,
        2_905_954,
        f"streamed from {CC3M}, 576 shards, once a backbone, not kept",
        "Google's, images their owners'",
    ),
    "coco": _Known(5_000, 25_000, "train 13 GB, val 6 GB, fetched by you", "annotations CC BY 4.0, images Flickr's"),
    "imagenet": _Known(50_000, 50_000, "val 6.3 GB, fetched by you", "research only, on registration"),
}


def plan(config: Config) -> str:
    """The plan of a run that embeds `config.sources` with vision-language models, as text for a terminal.

    Raises ValueError for a model that open_clip does not know.
    """
    specs = [*config.sources, *([config.classes] if config.classes else [])]
    known = {spec: _KNOWN.get(spec.partition(":")[0]) for spec in specs}
    lines = ["downloads"]
    for spec, about in known.items():
        size = (
            f"{about.images:,} images, {about.captions:,} captions; {about.size}; {about.terms}" if about else "yours"
        )
        lines.append(f"  {spec}: {size}")
    lines.append(f"  weights of {len(config.backbones)} models, from the hub")
    images = sum(about.images for about in known.values() if about)
    captions = sum(about.captions for about in known.values() if about)
    train = sum(about.captions for spec, about in known.items() if about and spec.startswith("cc3m"))
    lines += ["", f"{'model':16}{'d':>6}{'jobs':>6}{'embed, GPU h':>14}{'train, GPU h':>14}{'disk, GB':>10}"]
    total = [0.0, 0.0, 0.0, 0.0]
    for name in config.backbones:
        dim, image, text = _cost(config.models.get(name, name))
        embed = (images * image + captions * text) / (TFLOPS * 1e12) / 3600
        trained = [METHODS[name] for name in config.methods or TRAINED if name in TRAINED]
        trainings = len(config.seeds) * sum(len(config.bias_starts) if recipe.every_start else 1 for recipe in trained)
        steps = trainings * config.epochs * train // config.batch_size
        learn = steps * STEP * dim / 512 / 3600
        latents = dictionary_size(train, dim) if config.latents == AUTO else config.latents
        saes = trainings * 2 * latents * dim * 4
        disk = ((images + captions) * (dim + 1) * 4 + saes) / 1e9
        needs = (config.extraction_jobs, embed, learn, disk)
        total = [a + b for a, b in zip(total, needs, strict=True)]
        lines.append(f"{name:16}{dim:6}{needs[0]:6}{embed:14.1f}{learn:14.1f}{disk:10.1f}")
    lines.append(f"{'all':16}{'':6}{total[0]:6.0f}{total[1]:14.1f}{total[2]:14.1f}{total[3]:10.1f}")
    lines += [
        "",
        f"{len(config.seeds)} seeds; while a store is merged its parts take the same disk once more.",
        f"Hours are reckoned, not measured: {TFLOPS} TFLOP/s for encoders, {STEP * 1e3:g} ms a step at d = 512;",
        "without evaluation and ablations, and if decoding images keeps up. Your own sources are not counted.",
    ]
    return "\n".join(lines)


def _cost(name: str) -> tuple[int, float, float]:
    """d, and the operations of one image and of one caption, counted on a model without weights."""
    architecture, _ = resolve(name)
    with torch.device("meta"):
        model = open_clip.create_model(architecture, device="meta", load_weights=False)
    size, length = open_clip.transformer.to_2tuple(model.visual.image_size), model.context_length
    counts = []
    for encode, x in (
        (model.encode_image, torch.zeros(1, 3, *size, device="meta")),
        (model.encode_text, torch.zeros(1, length, dtype=torch.long, device="meta")),
    ):
        with FlopCounterMode(display=False) as counter:
            dim = encode(x).shape[1]
        counts.append(counter.get_total_flops())
    return dim, *counts
