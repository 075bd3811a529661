"""
Side by side with SAELens' trainer: the same rows, width, k, batch, steps, learning rate and schedule; explained variance and
dead features on rows that neither has seen, by SAELens' own reading of both results; wall time of the training alone.

    llamascope train train.yaml            # any training; its checkpoints/*/buffer.safetensors holds rows by layer
    python benches/peers/training.py --binary target/release/llamascope --rows buffer.safetensors --layer 10

Rows are put in order by chance once, a tenth is held out, and the others are read `--epochs` times. Both trainers get
them in memory or from a mapped file, so that no model runs. Times mean something on an idle machine only.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sae_lens import SAE
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer

KINDS = {
    "topk": (TopKTrainingSAE, TopKTrainingSAEConfig),
    "batch_topk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig),
}


@torch.no_grad()
def measure(sae, rows: torch.Tensor) -> dict:
    error = variance = active = 0.0
    seen = torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
    mean = rows.mean(0)
    for x in rows.split(1024):
        values = sae.encode(x)
        error += (sae.decode(values) - x).double().square().sum().item()
        variance += (x - mean).double().square().sum().item()
        active += (values > 0).sum().item()
        seen |= (values > 0).any(0)
    return {
        "explained_variance": 1 - error / variance,
        "l0": active / len(rows),
        "silent_fraction": 1 - seen.float().mean().item(),
    }


def saelens(args, train: torch.Tensor, folder: Path) -> tuple[SAE, float]:
    kind, config = KINDS[args.kind]
    torch.manual_seed(args.seed)
    sae = kind(config(
        d_in=train.shape[1],
        d_sae=args.expansion * train.shape[1],
        k=args.k,
        dtype="float32",
        device="cpu",
        apply_b_dec_to_input=False,
        normalize_activations="none",
    ))
    steps = args.epochs * len(train) // args.batch

    def batches():
        while True:
            order = torch.randperm(len(train))
            for which in order.split(args.batch):
                if len(which) == args.batch:
                    yield train[which]

    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=steps * args.batch,
            train_batch_size_samples=args.batch,
            lr=args.learning_rate,
            lr_end=0.0,
            lr_warm_up_steps=steps // 50,
            lr_decay_steps=steps // 5,
            dead_feature_window=args.dead_after // args.batch,
            device="cpu",
        ),
        sae=sae,
        data_provider=batches(),
    )
    started = time.perf_counter()
    trained = trainer.fit()
    seconds = time.perf_counter() - started
    trained.save_inference_model(str(folder))
    return SAE.load_from_disk(folder, device="cpu"), seconds


def ours(args, train: torch.Tensor, folder: Path) -> tuple[SAE, float]:
    rows = folder / "rows.safetensors"
    save_file({f"layer.{args.layer}": train}, rows)
    # The first buffer counts as a half too many.
    buffer = args.batch * 32
    settings = {
        "activations": str(rows),
        "massive": 0,
        "layers": [args.layer],
        "kind": args.kind,
        "jumprelu": args.kind == "batch_topk",
        "k": args.k,
        "k_start": args.k_start,
        "expansion": args.expansion,
        "tokens": args.epochs * len(train),
        "epochs": args.epochs + 1,
        "buffer": buffer,
        "batch": args.batch,
        "learning_rate": args.learning_rate,
        "dead_after": args.dead_after,
        "seed": args.seed,
        "weights": "float32",
        "layouts": ["saelens"],
        "output_dir": str(folder / "saes"),
        "checkpoint_minutes": 1e6,
    }
    config = folder / "train.yaml"
    config.write_text(json.dumps(settings), encoding="utf-8")
    started = time.perf_counter()
    subprocess.run([args.binary, "train", config, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    [written] = (folder / "saes" / "saelens").iterdir()
    return SAE.load_from_disk(written, device="cpu"), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--layer", type=int, default=10)
    parser.add_argument("--kind", choices=KINDS, default="batch_topk")
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--k-start", type=int, default=150)
    parser.add_argument("--expansion", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--dead-after", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["saelens", "llamascope"])
    args = parser.parse_args()

    rows = load_file(args.rows)[f"layer.{args.layer}"].float()
    rows = rows * (rows.shape[1] ** 0.5 / rows.norm(dim=1).mean())
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))]
    held_out, train = rows[: len(rows) // 10], rows[len(rows) // 10 :].contiguous()
    for name, trainer in (("llamascope", ours), ("saelens", saelens)):
        if args.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            sae, seconds = trainer(args, train, Path(folder))
        print(json.dumps({"trainer": name, "seconds": round(seconds, 1), **measure(sae, held_out)}), flush=True)


if __name__ == "__main__":
    main()
