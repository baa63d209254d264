"""One optimiser step of a TopK autoencoder: ours, plain autograd's, the other trainers', and the floor under all.

    python -m benchmarks.training                      ours, dense and floor
    uv venv peers && uv pip install --python peers -r benchmarks/requirements.txt
    peers/bin/python -m benchmarks.training            and the peers, those that can be imported
    python -m benchmarks.training --device cuda        on a GPU, into another table

Everyone gets the same batch of unit-norm rows, float32, shapes and number of threads, and its own recommended settings.
The floor is what no TopK autoencoder can leave out: the encoder's product and the selection of its k largest.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median

if "cuda" not in sys.argv:
    os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")  # its kernels need a GPU

import pandas as pd
import torch
import torch.nn.functional as F

from benchmarks.measure import alternate, peak_memory, write
from xsae.sae import SAEConfig, SparseAutoencoder
from xsae.training import Trainer, TrainingConfig, normalised_loss

Step = Callable[[], object]


@dataclass(frozen=True)
class Shape:
    """d, L, k, the rows of a batch, and where they are."""

    dim: int
    latents: int
    k: int
    batch: int
    device: str = "cpu"


SHAPES = (Shape(512, 8192, 32, 1024), Shape(256, 8192, 16, 256), Shape(128, 1024, 8, 512))
SMALL = Shape(16, 32, 2, 8)


def batches(shape: Shape) -> Iterator[torch.Tensor]:
    """Four batches over and over: unit-norm rows of a mixture of few directions, so that latents can learn."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(256, shape.dim, generator=generator)

    def batch() -> torch.Tensor:
        weights = torch.rand(shape.batch, 256, generator=generator).pow(16)
        noise = 0.1 * torch.randn(shape.batch, shape.dim, generator=generator)
        return F.normalize(weights @ directions + noise, dim=1).to(shape.device)

    return cycle([batch() for _ in range(4)])


def floor(shape: Shape) -> Step:
    """The encoder's product and top-k."""
    weight, bias = torch.randn(shape.latents, shape.dim).to(shape.device), torch.zeros(shape.latents).to(shape.device)
    x = next(batches(shape))
    return lambda: torch.addmm(bias, x, weight.T).topk(shape.k, dim=1, sorted=False)


def ours(shape: Shape, precision: str = "float32") -> Step:
    """`Trainer.step`."""
    sae = SparseAutoencoder(SAEConfig(shape.dim, shape.latents, shape.k), seed=0).to(shape.device)
    config = TrainingConfig(warmup=0, decay=False, precision=precision)
    trainer, data = Trainer([sae], config, steps=10_000), batches(shape)
    return lambda: trainer.step(next(data))


def ours_bfloat16(shape: Shape) -> Step:
    """`Trainer.step` whose encoder's product is in bfloat16, below the floor of float32."""
    return ours(shape, "bfloat16")


def dense(shape: Shape) -> Step:
    """The same step as one writes it first: dense codes, autograd, default AdamW."""
    sae = SparseAutoencoder(SAEConfig(shape.dim, shape.latents, shape.k), seed=0).to(shape.device)
    optimiser, data = torch.optim.AdamW(sae.parameters(), 5e-4, weight_decay=1e-5), batches(shape)

    def step() -> torch.Tensor:
        x = next(data)
        pre = ((x - sae.decoder_bias) @ sae.encoder.T + sae.encoder_bias).relu()
        values, latents = pre.topk(shape.k, dim=1)
        codes = torch.zeros_like(pre).scatter(1, latents, values)
        loss = normalised_loss(codes @ sae.dictionary + sae.decoder_bias, x)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimiser.step()
        sae.normalize_dictionary()
        return loss.detach()

    return step


# --- peers: their TopK autoencoder, their step ---


def overcomplete(shape: Shape) -> Step:
    """Its `train_sae` on a loader of one batch, silent; TopKSAE, Adam and MSE as in its documentation."""
    from overcomplete.sae import TopKSAE, train_sae

    model = TopKSAE(shape.dim, nb_concepts=shape.latents, top_k=shape.k)
    optimiser, data = torch.optim.Adam(model.parameters(), lr=5e-4), batches(shape)

    def criterion(x, x_hat, *_):
        return (x - x_hat).square().mean()

    return lambda: train_sae(model, [next(data)], criterion, optimiser, nb_epochs=1, monitoring=0)


def dictionary_learning(shape: Shape) -> Step:
    """Its `TopKTrainer.update`."""
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(
        steps=10_000, activation_dim=shape.dim, dict_size=shape.latents, k=shape.k, layer=0, lm_name="", device="cpu"
    )
    data, step = batches(shape), iter(range(1, 10_000))
    return lambda: trainer.update(next(step), next(data))


def sae_lens(shape: Shape) -> Step:
    """Its `SAETrainer.step` with the default, dense activations: its sparse ones fail in its own trainer on a CPU."""
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    config = TopKTrainingSAEConfig(d_in=shape.dim, d_sae=shape.latents, k=shape.k)
    data = batches(shape)
    trainer = SAETrainer(
        SAETrainerConfig(
            n_checkpoints=0, checkpoint_path=None, save_final_checkpoint=False, total_training_samples=10**8,
            device="cpu", autocast=False, lr=5e-4, lr_end=5e-5, lr_scheduler_name="constant", lr_warm_up_steps=0,
            adam_beta1=0.9, adam_beta2=0.999, lr_decay_steps=0, n_restart_cycles=1, dead_feature_window=1000,
            feature_sampling_window=2000, train_batch_size_samples=shape.batch,
            logger=LoggingConfig(log_to_wandb=False),
        ),
        TopKTrainingSAE(config), data,
    )  # fmt: skip
    return lambda: trainer.step(next(data))


def sparsify(shape: Shape) -> Step:
    """Its `SparseCoder` and what its trainer does with one batch; the default optimiser, sign descent."""
    from sparsify import SparseCoder, SparseCoderConfig
    from sparsify.sign_sgd import SignSGD

    coder = SparseCoder(shape.dim, SparseCoderConfig(num_latents=shape.latents, k=shape.k)).to(shape.device)
    optimiser = SignSGD(coder.parameters(), lr=5e-3 / (shape.latents / 2**14) ** 0.5)
    data = batches(shape)

    def step() -> None:
        coder.set_decoder_norm_to_unit_norm()
        coder(next(data)).fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()

    return step


PEERS = {
    "overcomplete": overcomplete, "dictionary_learning": dictionary_learning, "sae_lens": sae_lens, "sparsify": sparsify
}  # fmt: skip
ON_GPU = ("sparsify",)  # the one with kernels of its own for it


def on_gpu(step: Step, steps: int = 20) -> Step:
    """`steps` steps that a GPU is given one after the other, as in training, and then waited for."""

    def run() -> None:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()

    return run


def times(shape: Shape, made: dict[str, Callable[[Shape], Step]], repeats: int) -> pd.DataFrame:
    """Milliseconds of a step of each, and as multiples of the floor and of dense autograd."""
    steps = {name: make(shape) for name, make in made.items()}
    if shape.device == "cuda":
        seconds = {name: of / 20 for name, of in alternate({n: on_gpu(s) for n, s in steps.items()}, repeats).items()}
    else:
        seconds = alternate(steps, repeats)
    table = pd.DataFrame({"ms_per_step": seconds}).rename_axis("contestant").reset_index()
    table["ms_per_step"] *= 1e3
    for other in ("floor", "dense autograd"):
        table[f"x_{other.split()[0]}"] = table["ms_per_step"] / table.set_index("contestant")["ms_per_step"][other]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    made: dict[str, Callable[[Shape], Step]] = {"floor": floor, "ours": ours, "dense autograd": dense}
    made["ours, bfloat16 product"] = ours_bfloat16
    peers = {name: make for name, make in PEERS.items() if arguments.device == "cpu" or name in ON_GPU}
    made |= {name: make for name, make in peers.items() if _installed(name)}
    tables = []
    for shape in SHAPES:
        table = times(replace(shape, device=arguments.device), made, arguments.repeats)
        if shape == SHAPES[0] and arguments.device == "cpu":
            small = {name: partial(make, SMALL) for name, make in made.items()}
            # what an allocator gives back differs from process to process
            table["peak_mb"] = [
                median(peak_memory(partial(make, shape), small[name]) for _ in range(5)) for name, make in made.items()
            ]
        tables.append(table.assign(d=shape.dim, L=shape.latents, k=shape.k, batch=shape.batch))
    name = "training" if arguments.device == "cpu" else "training_gpu"
    write(pd.concat(tables)[["d", "L", "k", "batch", *tables[0].columns[:-4]]], name)


def _installed(name: str) -> bool:
    return any((Path(place) / name).is_dir() for place in sys.path if place)


if __name__ == "__main__":
    main()
