"""What models share through a hub's repository, or a folder that looks like one: files in, files out, and the card."""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, snapshot_download

from xsae.disk import files, markers

_FILES = ["*.json", "*.safetensors", "*/*.json", "*/*.safetensors"]  # nothing else is ever fetched, nothing unpickled
_USE = """from xsae.{module} import {name}

model = {name}.from_pretrained({place})
{line}"""
_LINES = {
    "Method": ("methods", 'codes = model.transform("image", x)        # x (n, d): sparse (n, L), one order of latents'),
    "SparseAutoencoder": ("sae", "codes = model.transform(x)                 # x (n, d): sparse (n, L)"),
}


class Shared(ModelHubMixin):
    """huggingface_hub's `save_pretrained`, `push_to_hub` and `from_pretrained`, with errors of one line."""

    KIND: markers.Kind  # of the folder

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write the folder, whole or not at all: a new one, an empty one, or over one of the same kind, whose card
        stays. options: as huggingface_hub has them. Raises FileExistsError where anything else is there."""
        with files.folder(Path(save_directory), self.KIND) as partial:
            return super().save_pretrained(partial, **options)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Load from a folder or a repository of the hub; options: `revision`, `token`, `cache_dir`, `local_files_only`,
        `force_download`. Raises OSError where it cannot be had, ValueError where a file is not what was written."""
        return cls._from_pretrained(model_id=str(fetch(str(pretrained_model_name_or_path), **options)))


def fetch(model_id: str, **options: Any) -> Path:
    """The folder of a model: `model_id` itself where that is one, else the hub's repository of that name, downloaded.

    options: as `huggingface_hub.snapshot_download` takes them. Raises OSError, one line, where it cannot be had.
    """
    if Path(model_id).is_dir():
        return Path(model_id)
    try:
        return Path(snapshot_download(model_id, allow_patterns=_FILES, **options))
    except Exception as error:  # of the hub's name check, its client or the network: each has its own kinds
        reason = " ".join(str(error).split())[:200]
        raise OSError(f"{model_id}: no folder, and no repository that can be fetched ({reason})") from None


def card(name: str, facts: Mapping[str, Any], place: str = "", results: Sequence[str] = ()) -> ModelCard:
    """A model card: what is known of the model, how to load it, and whose method it is.

    name: the class that loads it; facts: label -> value, told as they are; place: the repository's name or the
    folder; results: lines of figures.
    """
    about = ModelCardData(
        library_name="xsae", license="mit", tags=["sparse-autoencoder", "interpretability", "vision-language"]
    )
    module, line = _LINES[name]
    use = {"module": module, "name": name, "place": json.dumps(place or "this/folder"), "line": line}
    table = "\n".join(f"| {label} | {_cell(value)} |" for label, value in facts.items())
    figures = "\n".join(f"- {_cell(figure)}" for figure in results)
    parts = [
        f"---\n{about.to_yaml()}\n---",
        "# Sparse autoencoders of a joint embedding" if name == "Method" else "# A sparse autoencoder",
        f"| | |\n|---|---|\n{table}",
        *(["## Figures on held-out pairs\n\n" + figures] if results else []),
        f"## Use\n\n```python\n{_USE.format(**use)}\n```",
        "Made with xsae, after *Same Concept, Different Directions: Cross-Modal Feature Heterogeneity in Sparse "
        "Autoencoders* (arXiv 2606.29888).",
    ]
    return ModelCard("\n\n".join(parts) + "\n")


def _cell(value: Any) -> str:
    """Text as a cell of a Markdown table, which may come from anybody's file: no markup, no further cells or lines."""
    return " ".join(html.escape(str(value), quote=False).replace("|", "\\|").split())
