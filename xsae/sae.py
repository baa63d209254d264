"""The sparse autoencoder: a page of model, and its checkpoint."""

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
from xsae.compute.kernels import decode
from xsae.disk import files, markers
from xsae.disk.hub import Shared, card


@dataclass(frozen=True)
class SAEConfig:
    """What a checkpoint must know. `dim`: embedding size d; `latents`: L; `k`: active latents per embedding (their mean
    number, but for `topk`, `matryoshka` and `distance`); `normalize`: inputs are scaled to unit norm inside the model,
    so that no caller can forget it; `activation`: one of `ACTIVATIONS`."""

    dim: int
    latents: int
    k: int
    normalize: bool = True
    activation: str = "topk"

    def __post_init__(self) -> None:
        for name in ("dim", "latents", "k"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)!r:.40} found; an int of at least 1 is needed")
        if self.k > self.latents:
            raise ValueError(
                f"k: {self.k} active latents asked of a dictionary of {self.latents}; k must not exceed it"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation: {self.activation!r} is unknown; one of {', '.join(ACTIVATIONS)}")


class SparseAutoencoder(nn.Module, Shared):
    """Sparse autoencoder (paper, Method; Gao et al. 2024, Eq. 2-3).

        pre  = W_enc (x - b_dec) + b_enc               W_enc: `encoder` (L, d), b_enc: `encoder_bias` (L,)
        z    = activation(pre)                         `topk`: the k largest entries of ReLU(pre), else 0
        x^   = W_dec^T z + b_dec                       W_dec: `dictionary` (L, d), unit rows; b_dec: `decoder_bias` (d,)

    `distance` is another encoder, and leaves the dictionary its norms: see `activations.Distance`.
    The dictionary starts as the encoder's rows; the encoder is initialised like nn.Linear; biases start at zero
    here, and the decoder's where `methods.train_saes` puts it.
    `save_pretrained`, `push_to_hub` and `from_pretrained` are huggingface_hub's; a checkpoint's folder is their format.
    """

    KIND = markers.Kind("autoencoder's checkpoint", "config.json", "xsae.sae.1")

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

    def __repr__(self) -> str:
        config = self.config
        return f"SparseAutoencoder of d = {config.dim}, {config.latents} latents, k = {config.k}, {config.activation}"

    def twin(self, separate: Sequence[str] = ()) -> Self:
        """An autoencoder with the parameters of this one, the very tensors, and copies of those named in `separate`."""
        other = type(self)(self.config)
        for name, parameter in self.named_parameters():
            module, _, leaf = name.rpartition(".")
            mine = nn.Parameter(parameter.detach().clone()) if name in separate else parameter
            setattr(other.get_submodule(module), leaf, mine)
        return other

    def inputs(self, x: Tensor) -> Tensor:
        """What the model reconstructs: x (n, d) itself, or its unit-norm rows."""
        self._check_shape(x.shape)
        return F.normalize(x, dim=1) if self.config.normalize else x

    def _check_shape(self, shape: Sequence[int]) -> None:
        if len(shape) != 2 or shape[1] != self.config.dim:
            raise ValueError(f"x: shape {tuple(shape)} found; (n, {self.config.dim}) is what this model was made for")

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (n, d) -> values (n, w) >= 0 and their latents (n, w), distinct in a row.

        w is k where k is exact; else the largest number active in a row, the other rows being filled with zeros.
        """
        return self.activate(self.inputs(x), training=False)[:2]

    def activate(self, x: Tensor, training: bool) -> Code:
        """The code of `inputs(x)` (n, d), told whether it is a batch to learn from, and the sparsity loss: see
        `activations`."""
        return self.activation(x - self.offset, self.encoder, self.encoder_bias, training)

    @property
    def offset(self) -> Tensor:
        """What is subtracted from `inputs(x)` before it is encoded (d,): b_dec, or 0 with an encoder of distances."""
        return self.decoder_bias if self.activation.centred else torch.zeros_like(self.decoder_bias)

    def decode(self, values: Tensor, latents: Tensor) -> Tensor:
        """values (n, w), latents (n, w) -> reconstruction (n, d) of `inputs(x)`."""
        return decode(values, latents, self.dictionary) + self.decoder_bias

    def forward(self, x: Tensor) -> Tensor:
        """x (n, d) -> reconstruction (n, d) of `inputs(x)`."""
        return self.decode(*self.encode(x))

    @torch.no_grad()
    def normalize_dictionary(self) -> None:
        """Scale every direction to unit norm, in place, unless they have norms of their own; after every step."""
        if not self.activation.unit_rows:
            return
        self.dictionary.div_(self.dictionary.norm(dim=1, keepdim=True).clamp_min(1e-12))

    # --- arrays in, arrays out: what alignment and evaluation work on ---

    @torch.inference_mode()
    def transform(self, x: np.ndarray, batch_size: int = 4096) -> csr_array:
        """The codes of x (n, d), any real numbers, as a sparse float32 (n, L) array without stored zeros.

        Raises ValueError, naming the row, for what is no finite float32 row, or too long to be squared as one.
        """
        x = np.asanyarray(x)  # memory-mapped still
        if x.dtype.kind not in "fiu":
            raise ValueError(f"x: {x.dtype} found; real numbers (n, d) are needed")
        self._check_shape(x.shape)
        parts = []
        for start in range(0, max(len(x), 1), batch_size):
            with np.errstate(over="ignore"):
                block = np.array(x[start : start + batch_size], np.float32)
            bad = ~np.isfinite(np.einsum("nd,nd->n", block, block))
            if bad.any():
                raise ValueError(f"x: row {start + bad.argmax()} is NaN, infinite or too long for float32")
            values, latents = self.encode(torch.from_numpy(block))
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
        """Write the checkpoint folder `path`, whole or not at all; one that was there is replaced, anything else never.

        Raises FileExistsError where anything else is there, ValueError where weights are no autoencoder's.
        """
        with files.folder(path, self.KIND) as partial:
            self._save_pretrained(partial)

    def _save_pretrained(self, save_directory: Path) -> None:
        self._check_weights("weights")
        save_file(self.state_dict(), save_directory / "model.safetensors")
        markers.seal(save_directory, self.KIND, asdict(self.config))

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
        weights, config = Path(path) / "model.safetensors", _read_config(Path(path), markers.opened(path, cls.KIND))
        try:
            with torch.device("meta"):  # shapes alone, before the file is found to have them
                expected = {name: ("F32", tuple(tensor.shape)) for name, tensor in cls(config).state_dict().items()}
        except (TypeError, RuntimeError):  # beyond what torch can count
            size = f"dim {config.dim} and latents {config.latents}"
            raise ValueError(f"{Path(path) / 'config.json'}: {size} are more than any file holds") from None
        if (found := markers.tensor_shapes(weights)) != expected:
            wrong = min(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            shown = [" ".join(map(str, shapes.get(wrong, ["nothing"]))) for shapes in (expected, found)]
            raise ValueError(f"{weights}: {wrong}: {shown[0]} expected by config.json, {shown[1]} found")
        model = cls(config)
        model.load_state_dict(load_file(weights))
        model._check_weights(str(weights))
        return model

    def _check_weights(self, where: str) -> None:
        """Raise ValueError for weights that are not finite, or directions that are not of unit norm but should be."""
        for name, tensor in self.state_dict().items():
            if not tensor.isfinite().all():
                raise ValueError(f"{where}: {name} holds NaN or infinity; an autoencoder's weights are finite")
        norms = self.dictionary.detach().norm(dim=1)
        if self.activation.unit_rows and not torch.allclose(norms, torch.ones_like(norms), atol=1e-3):
            worst = norms[(norms - 1).abs().argmax()]
            raise ValueError(f"{where}: dictionary: directions of unit norm expected, one of norm {worst:.3g} found")


def _read_config(folder: Path, said: dict[str, Any]) -> SAEConfig:
    """The config that a checkpoint's marker states. Raises ValueError, one line, where it states none."""
    where, known = folder / "config.json", {field.name: field.type for field in fields(SAEConfig)}
    if wrong := sorted(set(said) - {"format", "files"} ^ set(known)):
        raise ValueError(f"{where}: {'unknown' if wrong[0] in said else 'missing'} key {wrong[0]!r}")
    for name, kind in known.items():
        if type(said[name]) is not kind:
            raise ValueError(f"{where}: {name}: {said[name]!r:.60} found; {kind.__name__} is needed")
    try:
        return SAEConfig(**{name: said[name] for name in known})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
