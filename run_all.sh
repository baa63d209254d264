#!/usr/bin/env bash
# The one entry: makes the environment when it is not current, then runs what is asked for.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

usage() {
    cat <<'END'
usage: ./run_all.sh [CONFIG] [--embeddings FILE.npz [--modalities A,B] [--quick]] [--latents N]
                    [engine options]
       ./run_all.sh test [pytest options]
       ./run_all.sh lab [jupyter options]

  CONFIG     smoke (some minutes), laptop (the default), paper-synthetic (the two synthetic
             sweeps at the paper's size), paper (real models and data sets; see README),
             or the path of a .yaml file
  test       lint, unit tests, every notebook, end-to-end runs
  lab        JupyterLab in the same environment

  --embeddings FILE.npz   your own embeddings: arrays `image` (n, d) and `text` (m, d), or any
                          two modalities or more; optional `caption` (m,) and `image_index` (m,);
                          results/CONFIG-FILE/
  --modalities A,B        which float matrices of the file are modalities, where they are not two
  --latents N             latents of all autoencoders together; 0 sizes them to the data
  --quick                 k as the config has it, latents sized to the data; without it both are
                          chosen on your own embeddings first, unless your config says otherwise

  --only BACKBONE         one backbone of the config; results/CONFIG-BACKBONE/

Engine options go to Snakemake: -n shows what would run, --forceall runs everything again,
--cores N bounds the processors. Tables go to results/CONFIG/, figures to figures/CONFIG/.
END
}

fail() {
    echo "error: $*" >&2
    exit 2
}

# A Python of at least 3.11 that can make virtual environments.
find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python of at least 3.11 with venv found; install one and put it on the PATH"
}

# The environment in .venv, exactly as requirements.txt pins it. Its copy inside .venv is written last,
# so that an interrupted installation is done again.
make_environment() {
    local python uv
    python="$(find_python)"
    echo "installing the environment into $here/.venv (about 5 GB) ..." >&2
    uv="$(command -v uv || true)"
    if [ -z "$uv" ]; then
        "$python" -m venv "$here/.venv/uv"
        "$here/.venv/uv/bin/python" -m pip install --quiet --disable-pip-version-check uv
        uv="$here/.venv/uv/bin/uv"
    fi
    [ -x "$here/.venv/bin/python" ] || "$uv" venv --quiet --allow-existing --python "$python" "$here/.venv"
    # compiled now: where PYTHONDONTWRITEBYTECODE is set, every process would compile what it imports (7 s instead of 3)
    "$uv" pip sync --quiet --compile-bytecode --python "$here/.venv" --require-hashes "$here/requirements.txt"
    "$uv" pip install --quiet --python "$here/.venv" --no-deps --no-build-isolation --editable "$here"
    check_imports "$here/.venv/bin/python" "remove $here/.venv and run this again"
    cat "$here/requirements.txt" "$here/pyproject.toml" >"$here/.venv/installed"
}

# torch and torchvision must match: plain pip may pick a CPU-only torch, with which open_clip cannot be imported. Where
# they say that they do, that is believed: to import them takes ten seconds.
check_imports() {
    "$1" - 2>/dev/null <<'END' && return
import re, sys
from importlib.metadata import requires, version

pinned = [need for need in requires("torchvision") if re.match(r"torch\W", need)]
(own, build), (_, other) = (version(name).partition("+")[::2] for name in ("torch", "torchvision"))
sys.exit(build != other or not any(own in re.split(r"[^\w.]", need) for need in pinned))
END
    "$1" -c 'import open_clip' 2>/dev/null ||
        fail "open_clip cannot be imported by $1 (torch and torchvision do not match?); $2"
}

if [ "${1:-}" = "--help" ] || [ "${1:-}" = "-h" ]; then
    usage
    exit
fi

# Whether a Python has what runs need, found but not imported.
has_packages() {
    "$1" -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))' \
        open_clip papermill snakemake nbmake xdist 2>/dev/null
}

if [ -n "${CONDA_PREFIX:-}" ] && has_packages "$CONDA_PREFIX/bin/python"; then
    bin="$CONDA_PREFIX/bin" # made from environment.yml: used as it is
    check_imports "$bin/python" "uv pip install --python $bin/python -r requirements.txt installs a matching pair"
    export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
else
    bin="$here/.venv/bin"
    cat "$here/requirements.txt" "$here/pyproject.toml" | cmp --quiet - "$here/.venv/installed" || make_environment
fi

case "${1:-}" in
test)
    shift
    XSAE_ROOT="$(mktemp -d)" # the tests' own results, never the user's
    export XSAE_ROOT
    trap 'rm -rf "$XSAE_ROOT"' EXIT
    cd "$here"
    "$bin/ruff" check --quiet .
    "$bin/ruff" format --check --quiet . || fail "some files are not formatted; run: ruff format"
    # two at once, however many processors there are: some tests watch the clock, some take two GB
    "$bin/python" -m pytest --nbmake --numprocesses 2 --no-loadscope-reorder "$@"
    ;;
lab)
    shift
    exec "$bin/jupyter" lab --notebook-dir "$here/notebooks" "$@"
    ;;
*)
    name=laptop
    case "${1:-}" in
    "" | -*) ;;
    *)
        name="$1"
        shift
        ;;
    esac
    exec "$bin/python" -m xsae.run.launch "$name" "$@"
    ;;
esac
