"""
    python torch_8b.py MODEL SAES SENTENCES --threads 2

The first layer and the first SAE of the Llama-3.1-8B shape in PyTorch, over the sentences one at a time. Prints
milliseconds a token as JSON: `layer_float32 ms`, `layer_bfloat16 ms`, and `encode_float32 ms`, `encode_bfloat16 ms` with
the nonzeros found. bfloat16 is left out on a CPU that cannot multiply it: there PyTorch takes minutes for a sentence.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from saes import DTYPES, load
from transformers import AutoConfig, AutoTokenizer, LlamaModel


def dtypes() -> list[str]:
    multiplies_bf16 = "bf16" in Path("/proc/cpuinfo").read_text(encoding="ascii")
    return ["float32", "bfloat16"] if multiplies_bf16 else ["float32"]


def median_ms_a_token(times: list[tuple[float, int]]) -> float:
    """The first one is the warm-up."""
    return statistics.median(1e3 * seconds / tokens for seconds, tokens in times[1:])


def layer(folder: Path, sentences: list[str], dtype: str) -> tuple[float, list[torch.Tensor]]:
    """Milliseconds a token of the first layer, and what it makes of the sentences."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = 1
    model = LlamaModel.from_pretrained(folder, config=config, dtype=DTYPES[dtype]).eval()
    times, residuals, began = [], [], 0.0

    def before(_module, _inputs):
        nonlocal began
        began = time.perf_counter()

    def after(_module, _inputs, output):
        times.append((time.perf_counter() - began, output.shape[1]))
        residuals.append(output[0].clone())

    model.layers[0].register_forward_pre_hook(before)
    model.layers[0].register_forward_hook(after)
    for sentence in sentences:
        model(**tokenizer(sentence, return_tensors="pt"), use_cache=False)
    return median_ms_a_token(times), residuals


def encode(folder: Path, residuals: list[torch.Tensor], dtype: str) -> tuple[float, float]:
    """Milliseconds a token of the first SAE, and how many features are active on one."""
    sae = load(folder, 0, dtype)
    times, nnz = [], 0
    for rows in residuals:
        rows = rows.to(DTYPES[dtype])
        began = time.perf_counter()
        pre = torch.addmm(sae.b_enc, rows, sae.W_enc)
        row, feature = (pre > sae.threshold).nonzero(as_tuple=True)
        values = pre[row, feature]
        times.append((time.perf_counter() - began, len(rows)))
        nnz += len(values)
    return median_ms_a_token(times), nnz / sum(tokens for _, tokens in times)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("saes", type=Path)
    parser.add_argument("sentences", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sentences = args.sentences.read_text(encoding="utf-8").splitlines()
    result = {}
    for dtype in dtypes():
        result[f"layer_{dtype} ms"], residuals = layer(args.model, sentences, dtype)
        result[f"encode_{dtype} ms"], result[f"l0_{dtype}"] = encode(args.saes, residuals, dtype)
    print(json.dumps(result))


main()
