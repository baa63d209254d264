"""What the notebooks take and make. Every start reads it, several times, so it imports nothing large."""

import ast
import json
from typing import Any

from xsae.disk import files
from xsae.run.config import AUTO, CHOOSABLE, Config
from xsae.run.paths import ROOT, RunPaths

MADE_BY = {
    "embeddings": "00_embeddings", "choices": "00b_choices",
    "heterogeneity": "01_heterogeneity", "direction_gaps": "01_heterogeneity",
    "gap_densities": "01_heterogeneity", "gap_controls": "01_heterogeneity", "modality_scores": "01_heterogeneity",
    "concept_directions": "01_heterogeneity", "cos_sweep": "01b_theory", "lambda_sweep": "01b_theory",
    "matched_world": "01b_theory",
    "reconstruction": "02_sae_training", "training_curves": "02_sae_training", "firing_rates": "02_sae_training",
    "alignment": "03_alignment", "matches": "03_alignment", "label_agreement": "03_alignment",
    "retrieval": "04_retrieval", "retrieval_intervals": "04_retrieval", "zeroshot": "04_retrieval",
    "zeroshot_intervals": "04_retrieval", "steering": "05_steering", "steering_concepts": "05_steering",
    "steering_curves": "05_steering", "steering_intervals": "05_steering", "monosemanticity": "06_monosemanticity",
    "latent_scores": "06_monosemanticity", "ablations": "07_ablations", "claims": "08_paper",
    "alignments": "09_alignments", "beyond": "09_alignments", "matches_significant": "09_alignments",
    "matches_truth": "09_alignments", "pairs_needed": "09_alignments", "explorer": "10_explorer",
}  # fmt: skip
# Tables that need concept labels
OF_LABELS = (
    "concept_directions", "label_agreement", "steering", "steering_concepts", "steering_curves", "steering_intervals",
)  # fmt: skip
OF_JUDGES = ("monosemanticity", "latent_scores")  # need a second encoder
OF_THE_WORLD = (*OF_LABELS, *OF_JUDGES)  # and so are not made of your own embeddings
OF_CLASSES = ("zeroshot", "zeroshot_intervals")  # made of your own embeddings where they come with classes
# What needs no embeddings
SYNTHETIC = ("cos_sweep", "lambda_sweep", "matched_world")
OF_THE_THEORY = (*SYNTHETIC, "matches_truth")  # of the synthetic world, which your own embeddings are run without


def left_out(config: Config) -> set[str]:
    """The tables that a run does not make: it is told to skip their notebook, or lacks what they are made of."""
    skipped = {table for table, notebook in MADE_BY.items() if notebook in config.skip}
    return _impossible(config) | skipped | (set() if config.auto else {"choices"})


def _impossible(config: Config) -> set[str]:
    if config.embeddings:
        from xsae.data.classes import read_classes  # here, for it takes a second to import and most runs do without

        classes = read_classes(config.embeddings, config.modalities)
        return {*OF_THE_WORLD, *OF_THE_THEORY, *(() if classes else OF_CLASSES)}
    if not config.backbones:
        return set(MADE_BY) - set(SYNTHETIC)
    if not config.sources:
        return set()
    labelled = any(spec.startswith(("coco:", "scenes:")) for spec in config.sources)
    missing = {OF_LABELS: not labelled, OF_JUDGES: len(config.backbones) < 2, OF_CLASSES: not config.classes}
    return {table for tables, absent in missing.items() if absent for table in tables}


def parameters(notebook: str, config: Config, run: str) -> dict[str, Any]:
    """The values of a run for the names that the notebook's parameters cell declares, `auto` as it is: what is chosen
    later must not look to the engine like a config that has changed.

    Raises ValueError for a declared name that no config has.
    """
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text())["cells"]
    [cell] = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    declared = [line.target.id for line in ast.parse("".join(cell["source"])).body]
    values = {"run": run, **config.model_dump()}
    if unknown := sorted(set(declared) - set(values)):
        raise ValueError(f"{notebook}: parameter `{unknown[0]}` is declared, but no config has it")
    return {name: values[name] for name in declared}


def settled(notebook: str, config: Config, run: str) -> dict[str, Any]:
    """`parameters` with what the run has chosen in the place of every `auto`, but for the notebook that chooses.

    Raises FileNotFoundError where nothing has been chosen yet.
    """
    values, path = parameters(notebook, config, run), RunPaths(run).choices
    waiting = [name for name in CHOOSABLE if values.get(name) == AUTO and notebook != MADE_BY["choices"]]
    if waiting and not path.is_file():
        raise FileNotFoundError(f"{path}: not there; notebook {MADE_BY['choices']} chooses {', '.join(waiting)}")
    chosen = json.loads(path.read_text()) if waiting else {}
    return values | {name: chosen[name] for name in waiting}


def keep_choices(run: str, chosen: dict[str, Any]) -> None:
    """Write what `settled` reads: a value for each name that was `auto`."""
    with files.file(RunPaths(run).choices) as partial:
        partial.write_text(json.dumps(chosen, indent=2) + "\n")
