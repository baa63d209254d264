"""One style, one function per figure. Figures are drawn from the result tables and compute nothing but means."""

from xsae.report.plots.comparison import (
    alignments,
    intervals,
    match_correlations,
    matches_truth,
    pairs_needed,
    retrieval,
    zeroshot,
)
from xsae.report.plots.concepts import (
    calibration,
    concept_directions,
    direction_gap,
    gap_density,
    idea,
    modality_score,
    scene_gallery,
)
from xsae.report.plots.steered import steered_scenes, steering, steering_intervals
from xsae.report.plots.style import METHOD_COLOURS, METHOD_NAMES, use_style
from xsae.report.plots.training import (
    ablations,
    choices,
    cos_sweep,
    firing_rates,
    lambda_sweep,
    monosemanticity,
    reconstruction,
    training_curves,
)

__all__ = [
    "METHOD_COLOURS",
    "METHOD_NAMES",
    "ablations",
    "alignments",
    "calibration",
    "choices",
    "concept_directions",
    "cos_sweep",
    "direction_gap",
    "firing_rates",
    "gap_density",
    "idea",
    "intervals",
    "lambda_sweep",
    "match_correlations",
    "matches_truth",
    "modality_score",
    "monosemanticity",
    "pairs_needed",
    "reconstruction",
    "retrieval",
    "scene_gallery",
    "steered_scenes",
    "steering",
    "steering_intervals",
    "training_curves",
    "use_style",
    "zeroshot",
]
