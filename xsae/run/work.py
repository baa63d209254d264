"""A run as its notebooks work with it: the stores, what is trained and aligned on them, and where results go."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import product
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from xsae.data.store import EmbeddingStore, open_store
from xsae.methods import METHODS, Method, pair_codes, posthoc
from xsae.report import plots
from xsae.run import pool, results
from xsae.run.checkpoints import fingerprint, is_trained, load
from xsae.run.jobs import ablate, choose, load_method, train_on_store
from xsae.run.paths import RunPaths
from xsae.training import TrainingConfig


def training(values: Mapping[str, Any], **changes: Any) -> TrainingConfig:
    """How a notebook trains: those of its parameters that are a training's settings, but for `changes`."""
    return TrainingConfig(
        **{field.name: values[field.name] for field in fields(TrainingConfig) if field.name in values} | changes
    )


class Run:
    """The run `name` on some of its backbones; the figures' style is set."""

    def __init__(self, name: str, backbones: Sequence[str]) -> None:
        self.name, self.paths = name, RunPaths(name)
        self.stores: dict[str, EmbeddingStore] = {b: open_store(self.paths.embeddings(b)) for b in backbones}
        plots.use_style()

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of the stores, the reference first."""
        return tuple(next(iter(self.stores.values())).modalities)

    @property
    def judges(self) -> dict[str, str]:
        """The backbone that judges the latents of each, which is the next one; empty where there is one alone."""
        names = list(self.stores)
        return dict(zip(names, [*names[1:], *names[:1]], strict=True)) if len(names) > 1 else {}

    def tables(self, *names: str) -> dict[str, pd.DataFrame]:
        """Those of these results that the run has made, by name."""
        there = [name for name in names if (self.paths.results / f"{name}.csv").is_file()]
        return {name: results.read_table(self.name, name) for name in there}

    def sizes(self, config: TrainingConfig) -> pd.DataFrame:
        """What there is to learn from, and with how many latents: a line per backbone."""
        return pd.DataFrame(
            {
                name: {
                    "training pairs": len(store.split("train")),
                    "held-out pairs": len(store.split("test")),
                    "dimension d": store.dim,
                    "latents in all": config.width(len(store.split("train")), store.dim),
                    "active k": config.k,
                }
                for name, store in self.stores.items()
            }
        ).T

    def train(self, methods: Sequence[str], seeds: Sequence[int], starts: dict[str, TrainingConfig]) -> pd.DataFrame:
        """Train what is not trained yet, side by side; `starts`: bias start -> config. Returns all training curves."""
        wanted = {
            (name, method, start, seed): (store.path, self.paths.checkpoint(name, method, start, seed), method, config)
            for (name, store), method, (start, config), seed in product(
                self.stores.items(), methods, starts.items(), seeds
            )
            if METHODS[method].every_start or start == next(iter(starts))
        }
        todo = [
            (*job, seed)
            for (name, _, _, seed), job in wanted.items()
            if not is_trained(*job[1:], seed, self.stores[name].fingerprint)
        ]
        if todo:
            pool.run(train_on_store, todo, "train", side_by_side=next(iter(starts.values())).device == "cpu")
        curves = [
            load(job[1], self.stores[name].fingerprint)[1].assign(
                backbone=name, method=method, bias_start=start, seed=seed
            )
            for (name, method, start, seed), job in wanted.items()
        ]
        return pd.concat(curves, ignore_index=True)

    def align(self, seeds: Sequence[int], starts: Sequence[str]) -> Iterator[tuple[dict[str, Any], Method, dict]]:
        """Align what `separated` trained and keep it: settings, the aligned method, codes of the training pairs."""
        for (name, store), start, seed in product(self.stores.items(), starts, seeds):
            folder = self.paths.checkpoint(name, "separated", start, seed)
            saes, _ = load(folder, store.fingerprint)
            of = fingerprint(folder)
            codes = pair_codes(Method(saes), store)
            aligned = posthoc(saes, codes)
            for other, alignment in aligned.alignments.items():
                alignment.save(self.paths.alignment(name, start, seed, other), fitted_on=of)
            yield {"backbone": name, "bias_start": start, "seed": seed}, aligned, codes

    def methods(
        self, methods: Sequence[str], seeds: Sequence[int], starts: Sequence[str], backbones: Sequence[str] = ()
    ) -> Iterator[tuple[dict[str, Any], Method]]:
        """What is trained and aligned: its `settings`, and the method."""
        for settings in self.settings(methods, seeds, starts, backbones):
            store = self.stores[settings["backbone"]]
            yield settings, load_method(self.paths, **settings, data_hash=store.fingerprint)

    def settings(
        self, methods: Sequence[str], seeds: Sequence[int], starts: Sequence[str], backbones: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """`backbone`, `bias_start`, `method` and `seed` of what there is; some methods have the first start alone."""
        return [
            {"backbone": name, "bias_start": start, "method": method, "seed": seed}
            for name, start, method, seed in product(backbones or self.stores, starts, methods, seeds)
            if METHODS[method].every_start or start == starts[0]
        ]

    def each(
        self, work: Callable, methods: Sequence[str], seeds: Sequence[int], starts: Sequence[str], *more: Any
    ) -> Iterator[tuple[dict[str, Any], Any]]:
        """Have a function of `jobs` done for each trained method, side by side: settings, and what it returns."""
        settings = self.settings(methods, seeds, starts)
        found = pool.run(work, [(self.name, *one.values(), *more) for one in settings], work.__name__)
        yield from zip(settings, found, strict=True)

    def ablate(
        self, methods: Sequence[str], seeds: Sequence[int], variants: Mapping[str, TrainingConfig]
    ) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
        """Train each method at each variant of the settings and measure it, side by side where processors train:
        `backbone`, `variant`, `method` and `seed`, and the figures of `jobs.ablate`."""
        wanted, trainings = list(product(self.stores, variants, methods, seeds)), []
        for name, variant, method, seed in wanted:
            config, which = variants[variant], variant.replace(", ", "-").replace(" = ", "").replace(" ", "-")
            folder = self.paths.checkpoint(name, f"ablation-{method}-{which}", config.bias_start, seed)
            trainings.append((self.stores[name].path, folder, method, config, seed))
        on_cpu = all(config.device == "cpu" for config in variants.values())
        found = pool.run(ablate, trainings, "settings", side_by_side=on_cpu)
        for (name, variant, _, seed), of_methods in zip(wanted, found, strict=True):
            for method, figures in of_methods.items():
                yield {"backbone": name, "variant": variant, "method": method, "seed": seed}, figures

    def trials(self, wanted: Sequence[tuple[str, TrainingConfig]]) -> list[dict[str, float]]:
        """`choice.trial` of methods and configs on the first store, side by side where processors train."""
        [store, *_] = self.stores.values()
        on_cpu = all(config.device == "cpu" for _, config in wanted)
        return pool.run(choose, [(store.path, *trial) for trial in wanted], "choose", side_by_side=on_cpu)

    def write(self, name: str, frame: pd.DataFrame | list[pd.DataFrame]) -> pd.DataFrame:
        """Write results/<run>/<name>.csv; parts are put together first. Returns what was written."""
        frame = frame if isinstance(frame, pd.DataFrame) else pd.concat(frame, ignore_index=True)
        results.write_table(self.name, name, frame)
        return frame

    def figure(self, name: str, figure: Figure) -> None:
        """Write figures/<run>/<name>.pdf and .png."""
        results.save_figure(self.name, name, figure)
