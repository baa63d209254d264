"""Ours beside everything else that makes codes comparable: what each retrieves, and what it pays for that.

Alignments of `separated` autoencoders that keep what a latent means, those that do not, and methods that are trained
as one, in one table, from the tables of a run. All retrieve with centred codes, as alignments always do.
"""

from collections.abc import Iterator, Mapping

import pandas as pd

from xsae.evaluation.aligned import KEPT
from xsae.evaluation.claims import interval

OURS = "partners"
ALIGNED = (OURS, "hungarian", "procrustes", "cca", "ridge")  # of `separated`, whose reconstruction they have
TRAINED = ("shared_bias", "masked_group_sparse", "shared_encoder", "vl_sae", "sparc")  # in one order by their training
PAID = ("partners", "label_agreement", "ms_mean", "mAP_captions_kept", "mAP_images_kept")  # of an alignment's figures
SETTINGS = ["backbone", "other", "direction", "method"]
TABLES = ("alignments", "retrieval", "reconstruction", "label_agreement", "monosemanticity", "steering_curves")


def gaps(tables: Mapping[str, pd.DataFrame], start: str) -> pd.DataFrame:
    """What `OURS`, other alignments and other methods retrieve and pay, means over seeds.

    Args:
        tables: name -> table as in results/<run>/; `alignments`, and those of `TABLES` that the run has made.
        start: the bias start that is looked at.

    Returns:
        `SETTINGS`, `metric` and `value`; `method` is an alignment or a method, `other` the modality beside the
        reference. By direction: `R@1`; `difference`, that of `OURS` minus this one's, with its 95 % interval over seeds
        `low` to `high`, and `seeds`. Where `direction` is empty: `loss_<modality>`; `partners` of a latent;
        `label_agreement`; `ms_mean` of the other's side; `mAP_<gallery>_kept`, steering where preservation is `KEPT`.
        What a run has not measured has no row.
    """
    known = {name: table[table["bias_start"] == start] for name, table in tables.items()}
    seeds = pd.concat([_aligned(known), *_trained(known), *_losses(known)], ignore_index=True)
    means = seeds.dropna(subset="value").groupby([*SETTINGS, "metric"], sort=False)["value"].mean().reset_index()
    rows = []
    first = seeds[seeds["metric"] == "R@1"]
    for values, recalls in first.groupby(SETTINGS[:3], sort=False):
        recall = recalls.pivot(index="seed", columns="method", values="value")
        for method in recalls["method"].unique():
            ahead = (recall[OURS] - recall[method]).dropna()
            if method != OURS:
                figures = interval(ahead.to_numpy()) | {"seeds": len(ahead)}
                rows += [(*values, method, metric, value) for metric, value in figures.items()]
    found = pd.concat([means, pd.DataFrame(rows, columns=means.columns)], ignore_index=True)
    order = {name: place for place, name in enumerate((*ALIGNED, *TRAINED))}
    places = found[SETTINGS].apply(
        lambda column: column.map(order) if column.name == "method" else pd.factorize(column)[0]
    )
    return found.loc[places.sort_values(SETTINGS, kind="stable").index].reset_index(drop=True)


def _aligned(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The figures of alignments by seed: `SETTINGS`, `seed`, `metric`, `value`."""
    table = tables["alignments"].drop(columns="method").rename(columns={"alignment": "method"})
    table = table[table["method"].isin(ALIGNED) & table["metric"].isin(("R@1", *PAID))].fillna({"direction": ""})
    return table[[*SETTINGS, "seed", "metric", "value"]]


def _ways(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Each `other`, and the `direction` to and from the reference."""
    return tables["alignments"].dropna(subset="direction")[["other", "direction"]].drop_duplicates()


def _trained(tables: Mapping[str, pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The same of methods that are trained as one."""
    others = _ways(tables)[["other"]].drop_duplicates()
    if "retrieval" in tables:
        first = tables["retrieval"].query("metric == 'R@1' and variant == 'centred'")
        first = first[first["method"].isin(TRAINED)].merge(_ways(tables), on="direction")
        yield first
        single = first.drop_duplicates(["backbone", "other", "method", "seed"])  # a latent is itself on the other side
        yield single.assign(direction="", metric="partners", value=1.0)
    if "label_agreement" in tables:
        table = tables["label_agreement"].query("metric == 'agreement'").assign(other="text")
        yield _of_trained(table, metric="label_agreement")
    if "monosemanticity" in tables:
        table = tables["monosemanticity"].query("metric == 'ms_mean'").rename(columns={"modality": "other"})
        yield _of_trained(table.merge(others, on="other"), metric="ms_mean")
    if "steering_curves" in tables:
        table = tables["steering_curves"]
        table = table[(table["preservation"] == KEPT) & (table["reached"] == 1)].rename(columns={"mAP": "value"})
        yield _of_trained(table, other="text", metric="mAP_" + table["gallery"] + "_kept")


def _of_trained(rows: pd.DataFrame, **about: str | pd.Series) -> pd.DataFrame:
    return rows.assign(direction="", **about)[rows["method"].isin(TRAINED)]


def _losses(tables: Mapping[str, pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The loss of either modality; that of an alignment is that of the `separated` autoencoders that it is of."""
    if "reconstruction" not in tables:
        return
    losses = tables["reconstruction"].query("metric == 'loss'")
    others = list(_ways(tables)["other"].unique())
    for other in others:
        paid = losses[~losses["modality"].isin(set(others) - {other})]
        paid = paid.assign(other=other, direction="", metric="loss_" + paid["modality"])
        yield paid[paid["method"].isin(TRAINED)]
        for name in ALIGNED:
            yield paid[paid["method"] == "separated"].assign(method=name)
