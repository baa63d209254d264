# Which notebook needs what, and what it makes. ./run_all.sh calls this; the engine's own options pass through it.
#
#   00_embeddings -> 00b_choices -> 01_heterogeneity -> 02_sae_training -> 03_alignment -> 04_retrieval -> 05_steering
#   -> 06_monosemanticity -> 07_ablations -> 09_alignments -> 08_paper -> report.html, README.md
#   01b_theory, and 10_explorer after 03 --> 08_paper
#   extract, for each backbone and job -> 00_embeddings, where a config names real sources
#
# A chain, because each reads what the ones before it made: 01 trains the `separated` autoencoders that 02 goes on with.
# 00b is there where a config leaves something to be chosen, for which the engine has `auto` all along.
# 01b draws its own data: a config without backbones runs it alone, your own embeddings leave it out.
# Embedding stores and checkpoints are no outputs here: the engine deletes a rule's outputs before it runs, and the
# notebooks go on from what is finished by themselves.
from urllib.parse import parse_qsl

from xsae.run.config import load_config, run_name
from xsae.run.notebooks import MADE_BY, left_out, parameters
from xsae.run.paths import ROOT

ASKED = dict(parse_qsl(config["run"]))
NAME, EMBEDDINGS, MODALITIES, ONLY = (ASKED.get(key, "") for key in ("name", "embeddings", "modalities", "only"))
LATENTS = int(ASKED["latents"]) if "latents" in ASKED else None
SETTINGS = load_config(NAME, EMBEDDINGS, MODALITIES, LATENTS, ONLY, "quick" in ASKED)
RUN = run_name(NAME, EMBEDDINGS, ONLY)
TABLES = {table: by for table, by in MADE_BY.items() if table not in left_out(SETTINGS)}
NOTEBOOKS = sorted(set(TABLES.values()))
EXPLORER, LAST = MADE_BY["explorer"], MADE_BY["claims"]  # the page on all tables comes last, whatever its number
CHAIN = [notebook for notebook in NOTEBOOKS if notebook not in (MADE_BY["cos_sweep"], EXPLORER, LAST)]
CHAIN += [notebook for notebook in NOTEBOOKS if notebook == LAST]
CODE = [str(path) for path in sorted((ROOT / "xsae").rglob("*.py"))]
PAGES = [str(path) for path in sorted((ROOT / "xsae/report/pages").iterdir())]
ARGUMENTS = [NAME] + [f"--{option}={value}" for option, value in ASKED.items() if option not in ("name", "quick")]
ARGUMENTS += ["--quick"] if "quick" in ASKED else []
# Whatever is data reaches a shell as a quoted parameter (:q), never as part of a command. Every job holds the run's
# lock, and ends with the process that started it: the engine, which `exec` makes its parent.
JOB = "exec python -m xsae.run.lock {params.lock:q} $PPID "
LOCK = f"artifacts/{RUN}/run.lock"
# With real sources each backbone is embedded by jobs of its own, which 00 then merges.
JOBS = [f"{job}of{SETTINGS.extraction_jobs}" for job in range(SETTINGS.extraction_jobs)] if SETTINGS.sources else []
EXTRACTED = [f"artifacts/{RUN}/extracted/{name}-{job}.done" for name in SETTINGS.backbones for job in JOBS]
# As many threads as there are: the engine cuts this to --cores here, and to --max-threads in jobs of other machines.
EVERY = 1024
# A job asks for a GPU where the config would use one; on this machine the request means nothing.
GPUS = int(SETTINGS.device != "cpu")


def as_it_is(value):
    """A parameter that the engine takes as it is: in any other it would read braces as a pattern."""
    return lambda wildcards: value


def done(notebook):
    return f"artifacts/{RUN}/{notebook}.done"


def upstream(notebook):
    if notebook == EXPLORER:
        return [done(MADE_BY["alignment"])]
    if notebook not in CHAIN:
        return []
    if notebook == CHAIN[0]:
        return [EMBEDDINGS] if EMBEDDINGS else EXTRACTED
    if notebook == CHAIN[-1]:
        return [done(other) for other in NOTEBOOKS if other != notebook]
    return [done(CHAIN[CHAIN.index(notebook) - 1])]


rule all:
    input:
        [done(notebook) for notebook in NOTEBOOKS],
        f"results/{RUN}/report.html" if CHAIN else [],


rule extract:
    output:
        touch("artifacts/{run}/extracted/{backbone}-{job}of{jobs}.done"),
    params:
        model=lambda wildcards: SETTINGS.models.get(wildcards.backbone, wildcards.backbone),
        sources=as_it_is(SETTINGS.sources),
        job=lambda wildcards: f"{wildcards.job}/{wildcards.jobs}",
        out=lambda wildcards: f"artifacts/{wildcards.run}/embeddings/{wildcards.backbone}",
        lock=LOCK,
    threads: EVERY
    resources:
        gpu=GPUS,
    shell:
        JOB + "xsae.run.embed --model {params.model:q} --source {params.sources:q} --job {params.job} "
        "--out {params.out:q} 2>&1"


rule report:
    input:
        [done(notebook) for notebook in NOTEBOOKS],
        code=[*CODE, *PAGES],
    output:
        f"results/{RUN}/report.html",
        f"results/{RUN}/README.md",
    params:
        run=RUN,
        lock=LOCK,
    shell:
        JOB + "xsae.run.page --run={params.run:q} 2>&1"


for notebook in NOTEBOOKS:

    rule:
        name:
            notebook
        input:
            notebook=str(ROOT / "notebooks" / f"{notebook}.ipynb"),
            upstream=upstream(notebook),
            # results never come from older code than what is there; checkpoints of equal settings are read back
            code=[*CODE, *PAGES] if notebook == EXPLORER else CODE,
        output:
            marker=touch(done(notebook)),
            executed=f"results/{RUN}/notebooks/{notebook}.ipynb",
            # updated in place: a table that is there stays until the new one is whole
            tables=update([f"results/{RUN}/{table}.csv" for table, made_by in TABLES.items() if made_by == notebook]),
        params:
            # a changed value reruns the notebooks that use it, and what follows
            parameters=as_it_is(parameters(notebook, SETTINGS, RUN)),
            arguments=as_it_is(ARGUMENTS),
            lock=LOCK,
        threads: EVERY
        resources:
            gpu=GPUS,
        shell:
            JOB + "xsae.run.notebook --notebook {rule} {params.arguments:q} 2>&1"
