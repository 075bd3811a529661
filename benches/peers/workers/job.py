"""What both Python ways of doing the job take and print."""

import argparse
import json
import time
from pathlib import Path


def arguments(doc: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("model", type=Path)
    parser.add_argument("saes", type=Path)
    parser.add_argument("layers", type=lambda text: [int(layer) for layer in text.split(",")])
    parser.add_argument("sentences", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch-tokens", type=int, default=1024, help="most tokens of a batch, where there are batches")
    return parser.parse_args()


def layer_folder(out: Path, layer: int) -> Path:
    folder = out / f"layer_{layer:02}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def report(n_tokens: int, start: float, loop: float) -> None:
    """The last line on stdout: tokens, seconds before the loop, seconds of the loop."""
    print(json.dumps({"tokens": n_tokens, "load_s": loop - start, "loop_s": time.perf_counter() - loop}))
