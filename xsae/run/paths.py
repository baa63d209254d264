"""Where everything lies: the only module that derives paths."""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the repository: configs, notebooks, Snakefile
TERMINAL = "XSAE_TERMINAL"  # tells a kernel, whose output is its notebook, which open file is the run's terminal


def output_root() -> Path:
    """Where results/, figures/ and artifacts/ go: $XSAE_ROOT if set, else the repository."""
    return Path(os.environ.get("XSAE_ROOT") or ROOT).resolve()


@dataclass(frozen=True)
class RunPaths:
    """The folders of one run, named after its config (`laptop`), or config and file for own embeddings."""

    run: str

    @property
    def results(self) -> Path:
        """Tables and manifest."""
        return output_root() / "results" / self.run

    @property
    def notebooks(self) -> Path:
        """Executed copies of the notebooks."""
        return self.results / "notebooks"

    @property
    def figures(self) -> Path:
        """PDF and PNG figures."""
        return output_root() / "figures" / self.run

    @property
    def artifacts(self) -> Path:
        """Embedding stores, checkpoints and alignments: large, made again from the config, never committed."""
        return output_root() / "artifacts" / self.run

    @property
    def lock(self) -> Path:
        """What the processes of the run hold (`xsae.run.lock`)."""
        return self.artifacts / "run.lock"

    @property
    def choices(self) -> Path:
        """What the run chose in the place of `auto`."""
        return self.artifacts / "choices.json"

    @property
    def encoders(self) -> Path:
        """Weights of encoders that the run trained anew."""
        return self.artifacts / "encoders"

    def embeddings(self, backbone: str) -> Path:
        """The embedding store of a backbone."""
        return self.artifacts / "embeddings" / backbone

    def classes(self, backbone: str) -> Path:
        """The zero-shot classes of a backbone: within its store, so that none outlives the store it belongs to."""
        return self.embeddings(backbone) / "classes"

    def checkpoint(self, backbone: str, method: str, bias_start: str, seed: int) -> Path:
        """The autoencoders of one method, start of the decoder bias and seed."""
        return self.artifacts / "checkpoints" / backbone / f"{method}-{bias_start}-seed{seed}"

    def alignment(self, backbone: str, bias_start: str, seed: int, modality: str) -> Path:
        """The post-hoc alignment of a modality's latents to the first modality's, of one `separated`."""
        return self.artifacts / "alignments" / backbone / f"{bias_start}-seed{seed}-{modality}.safetensors"
