"""Vision-language models as embedding functions: the paper's eight, and whatever else open_clip can load."""

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch import Tensor

# SigLIP2's resolutions are those of the base and large checkpoints that its paper lists first.
MODELS = {
    "clip-b32": "ViT-B-32-quickgelu:openai",
    "clip-l14": "ViT-L-14-quickgelu:openai",
    "metaclip-b32": "ViT-B-32-quickgelu:metaclip_fullcc",
    "metaclip-l14": "ViT-L-14-quickgelu:metaclip_fullcc",
    "openclip-b32": "ViT-B-32:datacomp_xl_s13b_b90k",
    "openclip-l14": "ViT-L-14:datacomp_xl_s13b_b90k",
    "siglip2-base": "ViT-B-16-SigLIP2:webli",
    "siglip2-large": "ViT-L-16-SigLIP2-256:webli",
}
BATCH = {"cuda": 1024, "cpu": 32}  # images at a time; halved where the memory does not hold them


class Encoder:
    """A vision-language model in eval mode with its own preprocessing and tokenizer, on one device.

    `name`: what it is called in manifests: `<architecture>:<tag>`. On a GPU products are float16 (autocast); on a CPU
    all is float32. `batch_size` starts at `BATCH` and halves, once and for all, where memory runs out; that is said
    on stderr. `load` makes one by name.
    """

    def __init__(
        self, name: str, model: torch.nn.Module, preprocess: Callable, tokenizer: Callable, device: str = "cpu"
    ) -> None:
        self.name, self.preprocess, self.tokenizer, self.device = name, preprocess, tokenizer, device
        self.model = model.eval().to(device)
        self.batch_size = BATCH[device]

    @classmethod
    def load(cls, name: str, device: str | None = None) -> "Encoder":
        """A model of `MODELS`, `ARCHITECTURE:TAG` as `open_clip.list_pretrained()` lists them,
        `ARCHITECTURE:/path/of/a/checkpoint`, or open_clip's own `hf-hub:ORG/NAME` and `local-dir:/path`.

        device: `cuda` where there is one, else `cpu`. Weights are fetched from the hub unless they are in its cache.
        Raises ValueError for an unknown name, or a quick-GELU variant that does not fit the tag, OSError where the
        weights cannot be had; one line each.
        """
        architecture, tag = resolve(name)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what they warn of, `resolve` refuses
                model, _, preprocess = open_clip.create_model_and_transforms(architecture, tag)
            tokenizer = open_clip.get_tokenizer(architecture)
        except (RuntimeError, OSError, ValueError) as error:  # open_clip's and the hub's, of many lines
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise OSError(f"{name}: weights or tokenizer cannot be had (no network, no token?): {reason}") from None
        return cls(f"{architecture}:{tag}" if tag else architecture, model, preprocess, tokenizer, device)

    def images(self, pixels: Tensor) -> np.ndarray:
        """Preprocessed images (n, 3, h, w) -> float32 (n, d), not normalised."""
        return self._in_batches(self.model.encode_image, pixels)

    def texts(self, captions: Sequence[str]) -> np.ndarray:
        """Captions -> float32 (len(captions), d), not normalised; longer ones are cut to the context length."""
        return self._in_batches(self.model.encode_text, self.tokenizer(list(captions)))

    @property
    def dim(self) -> int:
        """d, the size of an embedding."""
        return self.texts([""]).shape[1]

    @torch.inference_mode()
    def _in_batches(self, encode: Callable[[Tensor], Tensor], x: Tensor) -> np.ndarray:
        out: list[Tensor] = []
        start = 0
        while start < len(x):
            try:
                batch = x[start : start + self.batch_size].to(self.device, non_blocking=True)
                with torch.autocast(self.device, torch.float16, enabled=self.device == "cuda"):
                    out.append(encode(batch).float())
                start += len(batch)
            except torch.OutOfMemoryError as error:
                if self.batch_size == 1:
                    raise OSError(f"{self.name}: one input does not fit into the memory of {self.device}") from error
                self.batch_size //= 2
                print(f"{self.name}: out of memory; batches of {self.batch_size} from here on", file=sys.stderr)
        return torch.cat(out).cpu().numpy()


def resolve(name: str) -> tuple[str, str | None]:
    """The architecture and the tag, or checkpoint path, that `Encoder.load` takes for `name`.

    Raises ValueError, one line, for a name that open_clip does not know, and where a tag was trained with another
    activation (GELU or quick-GELU) than the architecture has, which changes every embedding unnoticed.
    """
    if name.startswith(("hf-hub:", "local-dir:")):
        return name, None
    architecture, _, tag = MODELS.get(name, name).partition(":")
    if open_clip.get_model_config(architecture) is None or not tag:
        raise ValueError(
            f"model: {name!r} is unknown; one of {', '.join(MODELS)}, or ARCHITECTURE:TAG of open_clip.list_pretrained"
        )
    if Path(tag).is_file():
        return architecture, tag
    known = open_clip.get_pretrained_cfg(architecture, tag)
    if not known:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise ValueError(f"model: {tag!r} is no tag of {architecture} and no file; its tags: {tags}")
    quick = [bool(config.get("quick_gelu")) for config in (open_clip.get_model_config(architecture), known)]
    if quick[0] != quick[1]:
        other = architecture.removesuffix("-quickgelu") + "-quickgelu" * quick[1]
        raise ValueError(f"model: {tag!r} was trained with{'' if quick[1] else 'out'} quick-GELU; take {other}:{tag}")
    return architecture, tag
