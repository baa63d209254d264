# Which notebook needs what, and what it makes. ./run_all.sh calls this; the engine's own options pass through it.
#
#   00_embeddings -> 01_heterogeneity -> 02_sae_training -> 03_alignment -> 04_retrieval -> 05_steering
#   -> 06_monosemanticity -> 07_ablations -> 08_paper -> report.html
#   01b_theory ----------------------------> 08_paper
#
# A chain, because each reads what the ones before it made: 01 trains the `separated` autoencoders that 02 goes on with.
# 01b draws its own data: a config without backbones runs it alone, your own embeddings leave it out.
# Embedding stores and checkpoints are no outputs here: the engine deletes a rule's outputs before it runs, and the
# notebooks go on from what is finished by themselves.
from pathlib import Path

from xsae.classes import read_classes
from xsae.config import load_config, run_name
from xsae.paths import ROOT
from xsae.results import MADE_BY, OF_CLASSES, OF_THE_WORLD, SYNTHETIC
from xsae.workflow import parameters

NAME, EMBEDDINGS = config["name"], config.get("embeddings", "")
SETTINGS = load_config(NAME, EMBEDDINGS, config.get("latents"))
RUN = run_name(NAME, EMBEDDINGS)
if EMBEDDINGS:
    LEFT_OUT = {*OF_THE_WORLD, *SYNTHETIC, *(() if read_classes(EMBEDDINGS) else OF_CLASSES)}
else:
    LEFT_OUT = set() if SETTINGS.backbones else set(MADE_BY) - set(SYNTHETIC)
TABLES = {table: by for table, by in MADE_BY.items() if table not in LEFT_OUT}
NOTEBOOKS = sorted(set(TABLES.values()))
CHAIN = [notebook for notebook in NOTEBOOKS if notebook != MADE_BY["cos_sweep"]]
ARGUMENTS = f"{NAME!r}" + (f" --embeddings {EMBEDDINGS!r}" if EMBEDDINGS else "")
if "latents" in config:
    ARGUMENTS += f" --latents {config['latents']}"


def done(notebook):
    return f"artifacts/{RUN}/{notebook}.done"


def upstream(notebook):
    if notebook not in CHAIN:
        return []
    if notebook == CHAIN[0]:
        return [EMBEDDINGS] if EMBEDDINGS else []
    if notebook == CHAIN[-1]:
        return [done(other) for other in NOTEBOOKS if other != notebook]
    return [done(CHAIN[CHAIN.index(notebook) - 1])]


rule all:
    input:
        [done(notebook) for notebook in NOTEBOOKS],
        f"results/{RUN}/report.html" if CHAIN else [],


rule report:
    input:
        f"results/{RUN}/notebooks/08_paper.ipynb",
    output:
        f"results/{RUN}/report.html",
    shell:
        # self-contained: what the page would fetch from the web it does not need
        "jupyter nbconvert --to html --no-input --log-level ERROR --output-dir results/{RUN} --output report "
        "--HTMLExporter.mathjax_url= --HTMLExporter.require_js_url= --HTMLExporter.jquery_url= "
        "--HTMLExporter.mermaid_js_url= --HTMLExporter.widget_renderer_url= {input} 2>&1"


for notebook in NOTEBOOKS:

    rule:
        name:
            notebook
        input:
            notebook=str(ROOT / "notebooks" / f"{notebook}.ipynb"),
            upstream=upstream(notebook),
            # results never come from older code than what is there; checkpoints of equal settings are read back
            code=[str(path) for path in sorted((ROOT / "xsae").rglob("*.py"))],
        output:
            marker=touch(done(notebook)),
            executed=f"results/{RUN}/notebooks/{notebook}.ipynb",
            # updated in place: a table that is there stays until the new one is whole
            tables=update([f"results/{RUN}/{table}.csv" for table, made_by in TABLES.items() if made_by == notebook]),
        params:
            # a changed value reruns the notebooks that use it, and what follows
            parameters=parameters(notebook, SETTINGS, RUN),
        threads: workflow.cores
        shell:
            "python -m xsae.workflow notebook {rule} " + ARGUMENTS + " 2>&1"
