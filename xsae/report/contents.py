"""What the report holds, in its order: the claims in words, and every figure and table with what to see in it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """figures/<run>/<name>.png: `title`; `caption`, how to read it; `alt`, what is drawn, for who does not see it."""

    name: str
    title: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Table:
    """results/<run>/<name>.csv as mean ± standard deviation over seeds: its lines, and which of it."""

    name: str
    title: str
    rows: Sequence[str]
    where: str = ""
    metrics: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    name: str
    title: str
    text: str
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()


SECTIONS = (
    Section(
        "idea", "The idea",
        "Drawn, not measured: what the paper says happens, and what it does about it.",
        (
            Figure(
                "idea", "One concept, two directions",
                "Left: a concept has a direction in images and another in texts. Middle: one autoencoder for both "
                "splits it, or merges it with a neighbour. Right: one autoencoder each, latents matched afterwards.",
                "Three fans of arrows: two cones, one per modality, with the directions of cat and dog in each.",
            ),
        ),
    ),
    Section(
        "data", "The data: how like CLIP it is",
        "Statistics of the embeddings that are worked on, beside those that CLIP makes of real images and captions.",
        (
            Figure(
                "scenes", "What the pairs look like",
                "Images of the embedded world, each above one of its captions. A caption names some objects and "
                "leaves others out; one in twenty belongs to another scene.",
                "A grid of small drawn scenes with coloured pictograms on patterned grounds, a caption under each.",
            ),
            Figure(
                "calibration", "This run's embeddings beside real CLIP's",
                "Filled marks: this run's backbones. Open marks: real CLIP. Statistics of held-out pairs.",
                "Marks for each statistic, such as matched cosine, modality gap and recall, for the run and for "
                "CLIP.",
            ),
        ),
        (
            Table("embeddings", "Statistics of the embeddings", ("backbone", "modality")),
        ),
    ),
    Section(
        "choices", "What the run chose by itself",
        "k, latents and weights of penalties, by what is reconstructed of training pairs that were set aside.",
        (
            Figure(
                "choices", "Loss along each axis of the choice",
                "Bars: one standard error; ringed: the choice, the sparsest below the dotted line, or the largest free "
                "weight. Numbers: how alike two seeds' directions are.",
                "Lines of the loss over the number of latents, over k and over the weight of each penalty.",
            ),
        ),
        (
            Table("choices", "What there was to choose from", ("method", "axis", "k", "latents", "weight", "chosen")),
        ),
    ),
    Section(
        "claim-1", "Claim 1: one concept, two directions",
        "The direction gap of two latents is 1 − the cosine of their directions. Two seeds of one modality never "
        "agree exactly either: they are the control.",
        (
            Figure(
                "concept_directions", "Known concepts: the cosine of their two directions",
                "One labelled concept per column. Filled: the cosine of its image and text direction, from labels,"
                " without an autoencoder. Open: the ceiling that noise leaves if both were one.",
                "Filled marks of the cosines, sorted, each below an open mark of its ceiling.",
            ),
            Figure(
                "direction_gap", "Gap of matched latents by their correlation",
                "Blue: image against text. Green and pink: two seeds of one modality. Compare points of one bin, "
                "and mind the numbers of matches below.",
                "Lines of the mean direction gap over bins of correlation, across modalities and for two controls.",
            ),
            Figure(
                "gap_density", "Density of the gap, all pairs of latents and matches (the paper's Fig. 2)",
                "A curve per bin of correlation; n pairs or matches. Pairs that hardly correlate lie near 1.",
                "Density curves of the direction gap, one per bin of correlation, above for all pairs, below for "
                "matches.",
            ),
            Figure(
                "gap_density_control", "The same for two seeds of one modality",
                "If both seeds found the same latents, curves of strong correlation would reach 0.",
                "Density curves of the direction gap between two seeds of one modality.",
            ),
        ),
        (
            Table(
                "heterogeneity", "Gap by bin of correlation", ("backbone", "modality", "comparison", "bin"),
                metrics=("gap_mean", "n"),
            ),
            Table("gap_controls", "Gap at equal correlation, by control", ("backbone", "modality", "control")),
        ),
    ),
    Section(
        "claim-2", "Claim 2: what a shared autoencoder makes of it",
        "On the run's embeddings, and in a synthetic world whose directions are known (smaller is better for RE, "
        "GRE, 1 − ESim and 1 − FSim).",
        (
            Figure(
                "modality_score", "Latents of the shared autoencoder by the modality they serve",
                "At 0 or 1 a latent serves one modality alone: mass at both ends is the modality split.",
                "Histograms of the modality score of latents, from 0, text alone, to 1, images alone.",
            ),
            Figure(
                "cos_sweep", "Synthetic world: from unrelated directions to equal ones (the paper's Fig. 1)",
                "CR: share of concepts that one latent serves in both modalities. RE: reconstruction loss. GRE: "
                "error of the concepts' own directions. Mean and standard deviation over seeds.",
                "Three panels of lines over the cosine of a concept's two directions, for shared and separate "
                "autoencoders.",
            ),
            Figure(
                "lambda_sweep", "Synthetic world: penalties at growing weight",
                "Lower is better. Lines across are the methods without a penalty.",
                "Three panels of lines over the weight of two penalties, with level lines of the other methods.",
            ),
        ),
        (
            Table("modality_scores", "Modality and Bridge scores", ("backbone", "modality")),
            Table("cos_sweep", "Cosine sweep", ("method", "cosine")),
            Table("lambda_sweep", "Penalty sweep", ("method", "factor")),
            Table("matched_world", "Synthetic world at CLIP's geometry", ("method",)),
        ),
    ),
    Section(
        "claim-3", "Claim 3: reconstruction",
        "Held-out embeddings, at equal total width. The decoder bias starts at the mean of the data, as "
        "recommended, or at zero, as published.",
        (
            Figure(
                "reconstruction", "Loss on held-out embeddings",
                "Lower is better. Dots are seeds, bars their mean; full: recommended start, pale: published start.",
                "Bars of the reconstruction loss of each method, by backbone and modality.",
            ),
            Figure(
                "training_curves", "Training",
                "Loss by step; mean and deviation over seeds.",
                "Falling curves of the training loss of each method.",
            ),
            Figure(
                "firing_rates", "How often latents fire",
                "Latents from the most to the least active. A curve that starts near 1 has latents that never "
                "sleep.",
                "Falling curves of the firing rate over the rank of the latents, by method and start.",
            ),
        ),
        (
            Table("reconstruction", "Reconstruction", ("backbone", "bias_start", "modality", "method")),
        ),
    ),
    Section(
        "claim-4", "Claim 4: alignment, retrieval, zero-shot, steering",
        "Ties count against the model everywhere. All methods stay below the dense embedding, the ceiling.",
        (
            Figure(
                "match_correlations", "Correlation of matches, and of matches between shuffled pairs",
                "What lies right of the grey is what both dictionaries have in common; inside it, matched by "
                "necessity. The share is on a log scale.",
                "Histograms of the correlations of matches for true pairs and for shuffled pairs.",
            ),
            Figure(
                "retrieval", "Retrieval: R@1 by method",
                "Full marks: recommended start; open: published. Bars: standard deviation over seeds.",
                "Marks of recall at 1 for each method and variant of the codes, by backbone and direction.",
            ),
            Figure(
                "retrieval_intervals", "Retrieval: post-hoc minus each other method",
                "R@1 with 95 % intervals over seeds and held-out scenes. Right of zero, post-hoc is ahead.",
                "Horizontal intervals of the difference in recall at 1, a row per other method.",
            ),
            Figure(
                "zeroshot", "Zero-shot classification",
                "Dashed: the dense embedding; dotted: chance.",
                "Marks of top-1 accuracy by method in three variants of the codes.",
            ),
            Figure(
                "steering", "Steering: concept gained against image kept",
                "Along a line the push grows from right to left. Above and to the right is better. Dashed: the "
                "concept's direction known from labels.",
                "Lines of mean average precision over preservation, one per method.",
            ),
            Figure(
                "steering_intervals", "Steering: post-hoc minus each other method",
                "mAP with 95 % intervals over seeds and concepts. Right of zero, post-hoc is ahead.",
                "Horizontal intervals of the difference in mean average precision, a row per other method.",
            ),
            Figure(
                "steered_scenes", "Steering: what it looks like",
                "One image without the concept, and the scenes nearest to it before and after; framed scenes hold "
                "it.",
                "Rows of small scenes nearest to a steered image, a block per method.",
            ),
        ),
        (
            Table("alignment", "Alignment", ("backbone", "modality", "bias_start")),
            Table("label_agreement", "Do matched latents carry one label?", ("backbone", "bias_start", "method")),
            Table("retrieval", "Retrieval", ("backbone", "direction", "variant", "bias_start", "method")),
            Table("zeroshot", "Zero-shot", ("backbone", "variant", "bias_start", "method")),
            Table(
                "steering", "Steering", ("backbone", "gallery", "bias_start", "alpha", "method"),
                "kind == 'all'", metrics=("mAP", "P@10", "preservation"),
            ),
        ),
    ),
    Section(
        "monosemanticity", "Monosemanticity",
        "How alike the inputs of one latent are, in the eyes of an encoder that the autoencoder has not seen.",
        (
            Figure(
                "monosemanticity", "Score of latents, best first",
                "Dotted: any two inputs. Post-hoc alignment changes no latent, so its curve is that of separate "
                "ones.",
                "Falling curves of the monosemanticity of latents by method, above a dotted baseline.",
            ),
        ),
        (
            Table("monosemanticity", "Monosemanticity", ("backbone", "modality", "method")),
        ),
    ),
    Section(
        "claim-5", "Claim 5: other sparsities, activations, backbones",
        "One setting is changed at a time. These trainings are shorter than those above.",
        (
            Figure(
                "ablations", "Loss and R@1 in every setting",
                "Left: lower is better, on a log scale. Right: higher is better. Mean and deviation over seeds.",
                "Marks of loss and recall of each method in each setting, a row per backbone.",
            ),
        ),
        (
            Table("ablations", "Ablations", ("backbone", "variant", "method")),
        ),
    ),
    Section(
        "claim-6", "Beyond the paper: alignments",
        "How much retrieval a latent must give up to keep its identity, which matches are real, and how many pairs "
        "alignment takes.",
        (
            Figure(
                "alignments", "Retrieval by the number of partners",
                "Right is more partners, up is better; equal numbers stand side by side. Open marks: dense maps, after "
                "which a latent means nothing.",
                "Marks of recall at one for each alignment, by how many partners a latent has.",
            ),
            Figure(
                "matches_truth", "Significant matches against the truth",
                "The synthetic world, where every concept is known. Dotted: the false discoveries that are allowed.",
                "Lines of precision and recall of significant matches over the number of pairs.",
            ),
            Figure(
                "pairs_needed", "How many pairs, and how true",
                "Left: by the number of pairs that align. Right: by the share of them with shuffled partners.",
                "Lines of recall at one over the number of pairs, one per alignment.",
            ),
        ),
        (
            Table(
                "alignments", "Alignments", ("backbone", "direction", "alignment"),
                metrics=("R@1", "R@5", "R@10", "partners", "label_agreement", "ms_mean", "mAP_captions_kept",
                         "mAP_images_kept"),
            ),
            Table("beyond", "Four partners beside others, and what each pays", ("backbone", "direction", "method")),
            Table("matches_significant", "Latents with a significant match", ("backbone", "pairs", "side")),
        ),
    ),
)  # fmt: skip
