"""What a run can be told: the one schema of configs/*.yaml, which are also the notebooks' parameters.

The defaults are the paper's recipe: a file says what it does otherwise.
"""

import difflib
import reprlib
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from xsae.run.paths import ROOT

CONFIGS = ROOT / "configs"
MOST = 10**8  # of anything that is counted: more is a slip of the keyboard, and no machine's memory
PUNCTUATION = " .,_-+=@()'"  # of names; what shells, patterns and web pages give a meaning of its own is not
SKIPPABLE = (
    "01_heterogeneity", "01b_theory", "04_retrieval", "05_steering", "06_monosemanticity", "07_ablations",
    "09_alignments", "10_explorer",
)  # fmt: skip
METHODS = (
    "shared", "shared_bias", "iso_energy", "group_sparse", "masked_group_sparse", "shared_encoder", "vl_sae", "sparc",
    "separated", "posthoc",
)  # fmt: skip
CLAIMED = ("shared", "shared_bias", "separated", "posthoc")  # the methods that the claims are about
# How the names of settings begin that one notebook alone reads
READ_BY = {
    "01b_theory": ("synthetic_", "matched_", "cosines", "penalty_factors"),
    "07_ablations": ("ablation_",),
}
AUTO = "auto"  # a value that 00b_choices chooses
CHOOSABLE = ("k", "latents", "iso_energy", "group_sparse", "masked_group_sparse")
LONGEST = 180  # bytes of a run's name: file systems carry 255, and files within are named after it


class Config(BaseModel):
    """One run. Every field but `skip` is a parameter of a notebook or of an engine's job; any other key is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    embeddings: str = Field("", description="path of your own .npz; empty = the embedded world")
    modalities: Annotated[list[str], Field(description="those of your own .npz; [] = all, where they are two")] = []
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    sources: Annotated[list[str], Field(description="of real images and captions; [] = the embedded world")] = []
    models: Annotated[dict[str, str], Field(description="backbones that xsae.data.encoders has no name for")] = {}
    classes: str = Field("", description="a source `imagenet:FOLDER` for zero-shot classification; empty = none")
    extraction_jobs: Annotated[int, Field(ge=1, le=MOST, description="jobs that share the embedding of a backbone")] = 1
    n_train_scenes: Annotated[int, Field(ge=40, le=MOST)] = 20000
    n_test_scenes: Annotated[int, Field(ge=10, le=MOST)] = 2000
    backbones: Annotated[list[str] | None, Field(description="[] = the synthetic experiments alone")] = None
    retrain: bool = False
    methods: Annotated[list[Literal[METHODS]], Field(description="what is compared; [] = every method")] = []
    latents: (
        Annotated[int, Field(ge=0, le=MOST, description="of all autoencoders together; 0 = as data allow")]
        | Literal[AUTO]
    ) = 8192
    k: Annotated[int, Field(ge=1, le=MOST)] | Literal[AUTO] = 32
    epochs: Annotated[int, Field(ge=1, le=MOST)] = 10
    patience: Annotated[int, Field(ge=0, le=MOST, description="0 = `epochs` passes; else looks without gain")] = 0
    max_steps: Annotated[int, Field(ge=1, le=MOST, description="the most steps of a training with patience")] = 10_000
    bias_starts: Annotated[
        list[Literal["mean", "zero"]],
        Field(min_length=1, description="where decoder biases start; the first is this run's own, others stand beside"),
    ] = ["mean", "zero"]
    batch_size: Annotated[int, Field(ge=2, le=MOST)] = 1024
    learning_rate: Annotated[float, Field(gt=0)] = 5.0e-4
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 1.0e-5
    aux_coefficient: Annotated[float, Field(ge=0)] = 0.0
    iso_energy: Annotated[float, Field(ge=0)] | Literal[AUTO] = 1.0e-4
    group_sparse: Annotated[float, Field(ge=0)] | Literal[AUTO] = 0.05
    masked_group_sparse: Annotated[float, Field(ge=0)] | Literal[AUTO] = 0.05
    synthetic_dim: Annotated[int, Field(ge=2, le=MOST)] = 256
    synthetic_concepts: Annotated[int, Field(ge=2, le=MOST)] = 1024
    synthetic_pairs: Annotated[int, Field(ge=50, le=MOST)] = 50000
    synthetic_latents: Annotated[int, Field(ge=2, le=MOST)] = 8192
    synthetic_k: Annotated[int, Field(ge=1, le=MOST)] = 16
    synthetic_epochs: Annotated[int, Field(ge=1, le=MOST)] = 10
    synthetic_batch: Annotated[int, Field(ge=2, le=MOST)] = 256
    matched_pairs: Annotated[int, Field(ge=100, le=MOST)] = 50_000
    matched_latents: Annotated[int, Field(ge=2, le=MOST)] = 8192
    cosines: Annotated[list[Annotated[float, Field(ge=-1, le=1)]], Field(min_length=1)] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    penalty_factors: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] = [
        1 / 64,
        0.25,
        1.0,
        4.0,
        64.0,
    ]
    alphas: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)] = [0.0, 0.1, 0.25, 0.5, 1.0, 2.0]
    kinds: Annotated[
        list[Literal["icon", "topic", "colour", "background", "weather", "object"]], Field(min_length=1)
    ] = ["icon", "topic", "colour", "background"]
    concepts_of_kind: Annotated[int, Field(ge=1, le=MOST, description="at most, those that most captions name")] = 80
    ablation_epochs: Annotated[int, Field(ge=1, le=MOST)] = 10
    ablation_ks: list[Annotated[int, Field(ge=1, le=MOST)]] = [16, 64]
    ablation_activations: list[Literal["topk", "batch_topk", "relu", "jumprelu", "matryoshka"]] = [
        "batch_topk", "relu", "jumprelu", "matryoshka",
    ]  # fmt: skip
    seeds: Annotated[list[Annotated[int, Field(ge=0, le=MOST)]], Field(min_length=1)] = [1, 2, 3]
    device: Annotated[Literal["cpu", "cuda", "auto"], Field(description="where autoencoders train")] = "cpu"
    precision: Annotated[
        Literal["float32", "bfloat16", "auto"], Field(description="of the product that chooses latents")
    ] = "float32"
    skip: Annotated[list[Literal[SKIPPABLE]], Field(description="notebooks to leave out, with their tables")] = []

    @model_validator(mode="after")
    def _fits_together(self) -> "Config":
        widths = [("k", self.k, "latents"), *(("ablation_ks", k, "latents") for k in self.ablation_ks)]
        for name, k, total in [*widths, ("synthetic_k", self.synthetic_k, "synthetic_latents")]:
            if AUTO in (k, getattr(self, total)):
                continue
            each = getattr(self, total) // 2
            if getattr(self, total) and k > each:
                raise ValueError(f"{name}: {k} exceeds the {each} latents that each modality gets of `{total}`")
        if self.backbones is None:
            raise ValueError("backbones: none named; this config is for your own embeddings: add --embeddings FILE.npz")
        for name in self.backbones:
            checked_name(name, f"backbones: {name!r:.60}: it")
        for name, values in self:
            if isinstance(values, list) and len(set(values)) != len(values):
                raise ValueError(f"{name}: {values} holds one twice")
        if self.methods and (missing := [name for name in CLAIMED if name not in self.methods]):
            raise ValueError(f"methods: {missing[0]!r} is missing; the claims need {', '.join(CLAIMED)}")
        if unused := sorted(set(self.models) - set(self.backbones)):
            raise ValueError(f"models: {unused[0]!r} is none of the backbones; they are {', '.join(self.backbones)}")
        for name in ("models", "classes", "extraction_jobs"):
            if self.backbones and not self.sources and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: of no use without `sources`, which it is about; leave it out")
        for name in ("modalities", "held_out"):
            if not self.embeddings and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: of no use without --embeddings FILE.npz, which it is about; leave it out")
        if self.sources and self.retrain:
            raise ValueError("retrain: of no use with `sources`, whose encoders are not ours; set it to false")
        for name in self.auto:
            if not self.backbones:
                raise ValueError(f"{name}: `auto` is of no use without backbones, whose embeddings it is chosen on")
            if name in METHODS and self.methods and name not in self.methods:
                raise ValueError(f"{name}: `auto` is of no use without the method, which `methods` leaves out")
        return self

    @property
    def auto(self) -> tuple[str, ...]:
        """The names of what 00b_choices is to choose."""
        return tuple(name for name in CHOOSABLE if getattr(self, name) == AUTO)


def load_config(
    name: str,
    embeddings: str = "",
    modalities: str = "",
    latents: int | None = None,
    only: str = "",
    quick: bool = False,
) -> Config:
    """The config `name`: a file of configs/ without its ending, or a path that ends in .yaml.

    A file whose `extends` names another takes from it what it does not say itself. embeddings: path of your own .npz;
    then the one backbone is named after it, and unless the config says otherwise, trainings go on until they are done
    and ablations are left out. k and the latents that a config of ours states are the embedded world's: they become
    `auto`, or with `quick` the k stays, and the latents become 0, as in a config without a k, which has the paper's.
    modalities: its matrices to work on, with commas between. latents: instead of the config's.
    only: the one backbone of the config to work on. Relative folders of sources start at the repository.
    Raises ValueError, one line, for whatever does not fit.
    """
    path, values = _read(name)
    said = dict(values)
    theirs = set() if path.parent == CONFIGS else set(said)  # what a file says that is not one of ours
    if "extends" in values:
        base, inherited = _read(values.pop("extends"), path.parent)
        if "extends" in inherited:
            raise ValueError(f"{path.name}: `extends`: {base.name} extends another itself; name that one")
        theirs |= set() if base.parent == CONFIGS else set(inherited)
        values = inherited | values
    if quick and not embeddings:
        raise ValueError("quick: of no use without --embeddings FILE.npz, whose k and latents it leaves unsearched")
    if embeddings:
        sizes = {"k": AUTO, "latents": AUTO} if "k" in values and not quick else {"latents": 0}
        recipe = {"learning_rate": Config.model_fields["learning_rate"].default}  # ours may suit the size of ours alone
        values |= {key: value for key, value in (sizes | recipe).items() if key not in theirs}
        values |= {"embeddings": embeddings, "backbones": [Path(embeddings).stem]}
        values |= {"sources": [], "classes": "", "models": {}, "extraction_jobs": 1, "retrain": False}
        values = {"patience": 3, "skip": ["07_ablations"]} | values
    if modalities:
        values["modalities"] = [modality.strip() for modality in modalities.split(",")]
    if latents is not None:
        values["latents"] = latents
    if only:
        if only not in (values.get("backbones") or []):
            known = ", ".join(values.get("backbones") or []) or "none"
            raise ValueError(f"{path.name}: only: {only!r} is none of its backbones; they are {known}")
        values["backbones"] = [only]
        if isinstance(values.get("models"), dict):
            values["models"] = {name: model for name, model in values["models"].items() if name == only}
    try:
        config = Config(**values)
        if not embeddings:
            _check_used(path.name, said)
        located = {"sources": [_located(spec) for spec in config.sources], "classes": _located(config.classes)}
        return config.model_copy(update=located)
    except ValidationError as error:
        raise ValueError(f"{path.name}: {_one_line(error.errors()[0])}") from None


def _read(name: str, folder: Path = Path()) -> tuple[Path, dict[str, Any]]:
    """The path of a config and what is written in it; a relative .yaml path starts at `folder`."""
    path = folder / name if str(name).endswith(".yaml") else CONFIGS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
        raise ValueError(f"config: {name!r} is unknown; one of {known}, or the path of a .yaml file")
    try:
        values = yaml.load(path.read_text(), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of its grammar, its dates, its encoding, its depth
        raise ValueError(f"{path.name}: not YAML: {' '.join(str(error).split())[:300]}") from None
    if isinstance(values, dict) and (odd := [key for key in values if not isinstance(key, str)]):
        raise ValueError(f"{path.name}: key {reprlib.repr(odd[0])} is no text; the name of a parameter is needed")
    if not isinstance(values, dict):
        raise ValueError(f"{path.name}: `key: value` lines expected, {type(values).__name__} found")
    return path, values


def _check_used(name: str, values: dict[str, Any]) -> None:
    """Raise ValueError where a file leaves out, in its own words, what another of its settings is about."""
    left_out = {prefix: notebook for notebook in values.get("skip") or () for prefix in READ_BY.get(notebook, ())}
    if values.get("sources"):
        left_out |= dict.fromkeys(("n_train_scenes", "n_test_scenes"), "the embedded world")
    for prefix, what in left_out.items():
        if unused := [key for key in values if key.startswith(prefix)]:
            raise ValueError(f"{name}: {unused[0]}: of no use without {what}, which this config leaves out")


class _Loader(yaml.SafeLoader):
    """YAML without its tags for objects, in which a key is said once: of two, the first would go unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: `{key.value}` is there twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def run_name(name: str, embeddings: str = "", only: str = "") -> str:
    """Where a run's results go: the config's name, and the file's for own embeddings, or the one backbone's.

    Raises ValueError, one line, for a name that folders and the engine's patterns cannot carry.
    """
    for path in filter(None, (name, embeddings)):
        checked_name(Path(path).stem, f"{path!r:.120}: the name of the file")
    run = "-".join(part for part in (Path(name).stem, Path(embeddings).stem, only) if part)
    if (size := len(run.encode())) > LONGEST:
        raise ValueError(
            f"{run[:40]}…: the run's name has {size} bytes; at most {LONGEST} are fine, so rename the file"
        )
    return run


def checked_name(name: str, where: str) -> str:
    """A name of a file or backbone, which becomes that of folders. Raises ValueError, one line, unless all can be."""
    strange = [letter for letter in name if unicodedata.category(letter)[0] not in "LMN" and letter not in PUNCTUATION]
    if strange:
        raise ValueError(f"{where} holds {strange[0]!r}; letters, digits, spaces and {PUNCTUATION.strip()} are fine")
    if name.strip(" .") != name.rstrip() or not name.strip():
        raise ValueError(f"{where} is empty or starts with a space or dot; let it start with a letter")
    return name


def _located(spec: str) -> str:
    """A source's spec whose relative path starts at the repository, whatever folder a job runs in."""
    kind, colon, where = spec.partition(":")
    return spec if kind == "scenes" or "://" in where or not where else f"{kind}{colon}{ROOT / where}"


def _one_line(error: dict[str, Any]) -> str:
    """The first thing pydantic found, as one line that names key, value and what would be right."""
    key, found = ".".join(map(str, error["loc"])), error["input"]
    key = error["loc"][0] if error["loc"][:1] and error["loc"][0] in CHOOSABLE else key  # not which type it fits least
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, Config.model_fields, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(Config.model_fields)}"
        return f"unknown parameter `{key}`; {hint}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    hint = ", or auto" if key in CHOOSABLE else ""
    hint += " (YAML reads 5e-4 as text: write 5.0e-4)" if isinstance(found, str) and "float" in error["type"] else ""
    return f"`{key}`: {reprlib.repr(found):.200} found; {error['msg'][0].lower()}{error['msg'][1:]}{hint}"
