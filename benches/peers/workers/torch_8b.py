"""
    python torch_8b.py MODEL SAES SENTENCES --threads 2

The first layer and the first SAE of the Llama-3.1-8B shape in PyTorch, over the sentences one at a time. Prints
milliseconds a token as JSON: `layer_bfloat16 ms`, and `encode_float32 ms`, `encode_bfloat16 ms` with the nonzeros found.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from saes import DTYPES, load
from transformers import AutoConfig, AutoTokenizer, LlamaModel


def median_ms_a_token(times: list[tuple[float, int]]) -> float:
    """The first one is the warm-up."""
    return statistics.median(1e3 * seconds / tokens for seconds, tokens in times[1:])


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("saes", type=Path)
    parser.add_argument("sentences", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    config = AutoConfig.from_pretrained(args.model)
    config.num_hidden_layers = 1
    model = LlamaModel.from_pretrained(args.model, config=config, dtype=torch.bfloat16).eval()
    times, residuals, began = [], [], 0.0

    def before(_module, _inputs):
        nonlocal began
        began = time.perf_counter()

    def after(_module, _inputs, output):
        times.append((time.perf_counter() - began, output.shape[1]))
        residuals.append(output[0].clone())

    model.layers[0].register_forward_pre_hook(before)
    model.layers[0].register_forward_hook(after)
    for sentence in args.sentences.read_text(encoding="utf-8").splitlines():
        model(**tokenizer(sentence, return_tensors="pt"), use_cache=False)
    result = {"tokens": sum(tokens for _, tokens in times), "layer_bfloat16 ms": median_ms_a_token(times)}
    del model

    for dtype in ("float32", "bfloat16"):
        sae = load(args.saes, 0, dtype)
        times, nnz = [], 0
        for rows in residuals:
            rows = rows.to(DTYPES[dtype])
            began = time.perf_counter()
            pre = torch.addmm(sae.b_enc, rows, sae.W_enc)
            row, feature = (pre > sae.threshold).nonzero(as_tuple=True)
            values = pre[row, feature]
            times.append((time.perf_counter() - began, len(rows)))
            nnz += len(values)
        result |= {f"encode_{dtype} ms": median_ms_a_token(times), f"l0_{dtype}": nnz / result["tokens"]}
        del sae, pre
    print(json.dumps(result))


main()
