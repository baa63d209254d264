"""The claims in words, the marks of their verdicts, and the figure that shows what each verdict is of."""

from dataclasses import dataclass

MARKS = {"holds": "●", "does not hold": "○", "the opposite holds": "✕", "not testable": "–"}


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: what it says, and the figure that shows what a kind of verdict (how it begins) is of."""

    title: str
    text: str
    shown_in: dict[str, str]


CLAIMS = {
    "1": Claim(
        "One concept has two directions",
        "In a joint embedding of images and text, the direction of one and the same concept differs between the two.",
        {
            "a labelled concept": "concept_directions",
            "matched directions": "direction_gap",
        },
    ),
    "2": Claim(
        "A shared autoencoder splits or merges concepts",
        "Where directions differ, one sparse autoencoder for both modalities spends two latents on a concept or "
        "merges neighbours, and pays in reconstruction.",
        {
            "": "cos_sweep",
        },
    ),
    "3": Claim(
        "Separate autoencoders reconstruct better",
        "At equal total width, an autoencoder per modality loses less of held-out embeddings.",
        {
            "": "reconstruction",
        },
    ),
    "4": Claim(
        "Post-hoc alignment makes codes comparable",
        "Matching the latents after training improves retrieval, zero-shot classification and steering, and "
        "changes no reconstruction.",
        {
            "posthoc classifies": "zeroshot",
            "posthoc retrieves": "retrieval_intervals",
            "posthoc steers": "steering_intervals",
            "separated without": "retrieval",
        },
    ),
    "5": Claim(
        "It holds at other sparsities, activations and backbones",
        "The orders of the methods are those of every setting, not of one.",
        {
            "": "ablations",
        },
    ),
    "6": Claim(
        "Beyond the paper: a few partners retrieve better than one",
        "Our own claim, judged by the same rules: a latent that is at most four latents of the other side retrieves "
        "better than with its one match, and as well as after a rotation of all latents or in methods that are trained "
        "as one. Of the matches that we call real, at most one in twenty is not.",
        {
            "at most": "matches_truth",
            "": "alignments",
        },
    ),
}
