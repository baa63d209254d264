"""The sparse autoencoder: a page of model, and its checkpoint."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array, vstack
from torch import Tensor, nn

from xsae.activations import ACTIVATIONS, Code
from xsae.hub import Shared, card
from xsae.kernels import decode


@dataclass(frozen=True)
class SAEConfig:
    """What a checkpoint must know. `dim`: embedding size d; `latents`: L; `k`: active latents per embedding (their mean
    number, but for `topk` and `matryoshka`); `normalize`: inputs are scaled to unit norm inside the model, so that no
    caller can forget it; `activation`: one of `ACTIVATIONS`."""

    dim: int
    latents: int
    k: int
    normalize: bool = True
    activation: str = "topk"

    def __post_init__(self) -> None:
        for name in ("dim", "latents", "k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} found; at least 1 is needed")
        if self.k > self.latents:
            raise ValueError(
                f"k: {self.k} active latents asked of a dictionary of {self.latents}; k must not exceed it"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation: {self.activation!r} is unknown; one of {', '.join(ACTIVATIONS)}")


def _config(values: dict) -> SAEConfig:
    return SAEConfig(**{name: value for name, value in values.items() if name != "sha256"})


class SparseAutoencoder(nn.Module, Shared, coders={SAEConfig: (asdict, _config)}):
    """Sparse autoencoder (paper, Method; Gao et al. 2024, Eq. 2-3).

        pre  = W_enc (x - b_dec) + b_enc               W_enc: `encoder` (L, d), b_enc: `encoder_bias` (L,)
        z    = activation(pre)                         `topk`: the k largest entries of ReLU(pre), else 0
        x^   = W_dec^T z + b_dec                       W_dec: `dictionary` (L, d), unit rows; b_dec: `decoder_bias` (d,)

    The dictionary starts as the encoder's rows; the encoder is initialised like nn.Linear; biases start at zero
    here, and the decoder's where `training.train` puts it.
    `save_pretrained`, `push_to_hub` and `from_pretrained` are huggingface_hub's; a checkpoint's folder is their format.
    """

    def __init__(self, config: SAEConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        bound = config.dim**-0.5  # nn.Linear's own
        start = torch.empty(config.latents, config.dim)
        start.uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
        self.encoder = nn.Parameter(start)
        self.encoder_bias = nn.Parameter(torch.zeros(config.latents))
        self.dictionary = nn.Parameter(F.normalize(start, dim=1))
        self.decoder_bias = nn.Parameter(torch.zeros(config.dim))
        self.activation = ACTIVATIONS[config.activation](config.latents, config.k)

    def twin(self, own: Sequence[str] = ()) -> Self:
        """An autoencoder with the parameters of this one, the very tensors, but for those named in `own`."""
        other = type(self)(self.config)
        for name, parameter in self.named_parameters():
            if name not in own:
                module, _, leaf = name.rpartition(".")
                setattr(other.get_submodule(module), leaf, parameter)
        return other

    def inputs(self, x: Tensor) -> Tensor:
        """What the model reconstructs: x (n, d) itself, or its unit-norm rows."""
        if x.ndim != 2 or x.shape[1] != self.config.dim:
            raise ValueError(f"x: shape {tuple(x.shape)} found; (n, {self.config.dim}) is what this model was made for")
        return F.normalize(x, dim=1) if self.config.normalize else x

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (n, d) -> values (n, w) >= 0 and their latents (n, w), distinct in a row.

        w is k where k is exact; else the largest number active in a row, the other rows being filled with zeros.
        """
        return self.activate(x, training=False)[:2]

    def activate(self, x: Tensor, training: bool) -> Code:
        """`encode`, told whether x is a batch to learn from, and the sparsity loss: see `activations`."""
        return self.activation(self.inputs(x) - self.decoder_bias, self.encoder, self.encoder_bias, training)

    def decode(self, values: Tensor, latents: Tensor) -> Tensor:
        """values (n, w), latents (n, w) -> reconstruction (n, d) of `inputs(x)`."""
        return decode(values, latents, self.dictionary) + self.decoder_bias

    def forward(self, x: Tensor) -> Tensor:
        """x (n, d) -> reconstruction (n, d) of `inputs(x)`."""
        return self.decode(*self.encode(x))

    @torch.no_grad()
    def normalize_dictionary(self) -> None:
        """Scale every direction to unit norm, in place; called after every optimiser step."""
        self.dictionary.div_(self.dictionary.norm(dim=1, keepdim=True).clamp_min(1e-12))

    # --- arrays in, arrays out: what alignment and evaluation work on ---

    @torch.inference_mode()
    def transform(self, x: np.ndarray, batch_size: int = 4096) -> csr_array:
        """The codes of x (n, d) as a sparse float32 (n, L) array without stored zeros."""
        parts = []
        for start in range(0, max(len(x), 1), batch_size):
            values, latents = self.encode(torch.from_numpy(np.array(x[start : start + batch_size], np.float32)))
            n, k = values.shape
            pointers = np.arange(n + 1) * k
            part = csr_array((values.flatten().numpy(), latents.flatten().numpy(), pointers), (n, self.config.latents))
            part.eliminate_zeros()
            part.sort_indices()
            parts.append(part)
        return vstack(parts, format="csr")

    @torch.inference_mode()
    def inverse_transform(self, codes: csr_array) -> np.ndarray:
        """Codes (n, L) back to embeddings: float32 (n, d)."""
        return codes @ self.dictionary.numpy() + self.decoder_bias.numpy()

    @property
    def directions(self) -> np.ndarray:
        """The dictionary as a float32 (L, d) array."""
        return self.dictionary.detach().numpy()

    # --- checkpoint: a folder with model.safetensors and config.json ---

    def save(self, path: Path) -> None:
        """Write the checkpoint folder `path`: to a temporary name first, then renamed over what was there."""
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self._save_pretrained(partial)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_file(self.state_dict(), save_directory / "model.safetensors")
        config = asdict(self.config) | {"sha256": _sha256(save_directory / "model.safetensors")}
        (save_directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **_: Any) -> "SparseAutoencoder":
        return cls.load(Path(model_id))

    def generate_model_card(self, place: str = "") -> ModelCard:
        """The card of an autoencoder alone."""
        return card("SparseAutoencoder", asdict(self.config), place)

    @classmethod
    def load(cls, path: Path) -> "SparseAutoencoder":
        """Read a checkpoint folder.

        Raises FileNotFoundError where there is none, ValueError where a file is not what was written.
        """
        path = Path(path)
        for name in ("config.json", "model.safetensors"):
            if not (path / name).is_file():
                raise FileNotFoundError(f"{path / name}: not there; a checkpoint folder holds it")
        try:
            config = json.loads((path / "config.json").read_text())
            expected = config.pop("sha256")
        except (json.JSONDecodeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path / 'config.json'}: not a checkpoint's config ({error!r})") from None
        if unknown := set(config) - {field.name for field in fields(SAEConfig)}:
            raise ValueError(f"{path / 'config.json'}: unknown key {sorted(unknown)[0]!r}")
        if (found := _sha256(path / "model.safetensors")) != expected:
            found, expected = f"{found[:12]}…", f"{expected[:12]}…"
            raise ValueError(
                f"{path / 'model.safetensors'}: truncated or altered: sha256 {found} found, {expected} written"
            )
        model = cls(SAEConfig(**config))
        model.load_state_dict(load_file(path / "model.safetensors"))
        return model


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
