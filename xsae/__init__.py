"""xsae: cross-modal sparse autoencoders, one per modality, aligned after training (arXiv 2606.29888).

store = xsae.from_arrays("my-store", image=image, text=text)    # or open_store of one that is there
method = xsae.train(store, "posthoc")                           # a Method: an autoencoder each, text's aligned
codes = method.transform("image", image)                        # sparse (n, L)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xsae.alignment import Alignment
    from xsae.data.own import from_arrays
    from xsae.data.store import EmbeddingStore, open_store
    from xsae.methods import Method, train
    from xsae.sae import SAEConfig, SparseAutoencoder
    from xsae.training import TrainingConfig

__version__ = "0.1.0"
_WHERE = {
    "open_store": "data.store", "from_arrays": "data.own", "EmbeddingStore": "data.store", "train": "methods",
    "Method": "methods", "TrainingConfig": "training", "SparseAutoencoder": "sae", "SAEConfig": "sae",
    "Alignment": "alignment",
}  # fmt: skip
__all__ = [
    "Alignment", "EmbeddingStore", "Method", "SAEConfig", "SparseAutoencoder", "TrainingConfig", "from_arrays",
    "open_store", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """A name of the face, imported when it is asked for: torch takes seconds, and `--help` needs none of it."""
    if name not in _WHERE:
        raise AttributeError(f"module 'xsae' has no attribute {name!r}")
    return getattr(import_module(f"xsae.{_WHERE[name]}"), name)
