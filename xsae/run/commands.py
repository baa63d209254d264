"""What the commands of a run share: the arguments that say which run is meant, and one line for whatever is wrong."""

import argparse
import sys
from collections.abc import Callable


def which_run() -> argparse.ArgumentParser:
    """A parser's parent with the arguments of `load_config`."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("name", help="of a config, or its path")
    parser.add_argument("--embeddings", default="")
    parser.add_argument("--modalities", default="", help="of your own embeddings, with commas between")
    parser.add_argument("--latents", type=int)
    parser.add_argument("--only", default="")
    parser.add_argument("--quick", action="store_true", help="choose neither k nor latents of your own embeddings")
    return parser


def exit_status(work: Callable[[], int]) -> int:
    """What `work` returns, or 2 after its error in one line on stderr, or 130 when it is interrupted."""
    try:
        return work()
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
