"""
    python tuned.py MODEL SAES LAYERS SENTENCES OUT --dtype float32 --threads 2 [--batch-tokens N]

The same job as well as PyTorch does it: batches of like length, no head, nothing after the last layer asked for, one
product for all rows of a batch, nonzeros and their order found for all rows at once. Prints its timings as JSON.
"""

import time

start = time.perf_counter()
import json  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from job import arguments, layer_folder, report  # noqa: E402
from saes import DTYPES, load  # noqa: E402
from transformers import AutoModel, AutoTokenizer  # noqa: E402


class StopForward(Exception):
    """Raised by the hook of the last layer."""


def batches(encoded: list[list[int]], most: int) -> list[list[int]]:
    """Numbers of the sentences by length, in groups of at most `most` tokens with their padding."""
    groups: list[list[int]] = [[]]
    for number in sorted(range(len(encoded)), key=lambda number: len(encoded[number])):
        if groups[-1] and (len(groups[-1]) + 1) * len(encoded[number]) > most:
            groups.append([])
        groups[-1].append(number)
    return groups


def sparse(sae, rows: torch.Tensor) -> tuple[list[int], list[int], list[float]]:
    """Of all rows: where each one's features end; ids and values by (row, value descending)."""
    pre = torch.addmm(sae.b_enc, rows, sae.W_enc)
    active = pre > sae.threshold.clamp(min=0)
    row, feature = active.nonzero(as_tuple=True)
    values = pre[row, feature].float().numpy()
    row = row.numpy()
    order = np.lexsort((-values, row))
    ends = np.cumsum(np.bincount(row, minlength=len(rows))).tolist()
    return ends, feature.numpy()[order].tolist(), values[order].tolist()


@torch.inference_mode()
def main() -> None:
    args = arguments(__doc__)
    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModel.from_pretrained(args.model, dtype=DTYPES[args.dtype]).eval()
    saes = {layer: load(args.saes, layer, args.dtype) for layer in args.layers}
    folders = {layer: layer_folder(args.out, layer) for layer in args.layers}
    residuals = {}

    def keep(layer: int):
        def hook(_module, _inputs, output):
            residuals[layer] = output
            if layer == max(args.layers):
                raise StopForward
        return hook

    for layer in args.layers:
        model.layers[layer].register_forward_hook(keep(layer))
    sentences = args.sentences.read_text(encoding="utf-8").splitlines()
    encoded = tokenizer(sentences)["input_ids"]
    texts = {token: json.dumps(tokenizer.decode([token]), ensure_ascii=False) for ids in encoded for token in set(ids)}

    loop = time.perf_counter()
    for numbers in batches(encoded, args.batch_tokens):
        lengths = torch.tensor([len(encoded[number]) for number in numbers])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        ids = torch.zeros(mask.shape, dtype=torch.long)
        ids[mask] = torch.tensor([token for number in numbers for token in encoded[number]])
        try:
            # Sentences of one length need no mask, and attention without one is faster.
            model(input_ids=ids, attention_mask=None if mask.all() else mask.long(), use_cache=False)
        except StopForward:
            pass
        for layer, sae in saes.items():
            ends, features, values = sparse(sae, residuals[layer][mask])
            begin, row = 0, 0
            for number in numbers:
                lines = []
                for position, token in enumerate(encoded[number]):
                    end = ends[row]
                    lines.append(
                        f'{{"token_pos": {position}, "token_str": {texts[token]}, "nnz": {end - begin}, '
                        f'"feat_ids": {features[begin:end]}, "feat_vals": {values[begin:end]}}}\n'
                    )
                    begin, row = end, row + 1
                (folders[layer] / f"sentence_{number:04}.jsonl").write_text("".join(lines), encoding="utf-8")
    report(sum(map(len, encoded)), start, loop)


main()
