"""
    python seed_way.py MODEL SAES LAYERS SENTENCES OUT --dtype float32 --threads 2

The job as its author wrote it: a sentence at a time, the whole model, a dense encode for every layer, a loop over the
tokens. Prints its timings as JSON.
"""

import time

start = time.perf_counter()
import json  # noqa: E402

import torch  # noqa: E402
from job import arguments, layer_folder, report  # noqa: E402
from saes import DTYPES, load  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402


@torch.no_grad()
def main() -> None:
    args = arguments(__doc__)
    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=DTYPES[args.dtype]).eval()
    saes = {layer: load(args.saes, layer, args.dtype) for layer in args.layers}
    # Hooks and not `output_hidden_states`, whose last entry has gone through the final norm.
    residuals = {}
    for layer in args.layers:
        model.model.layers[layer].register_forward_hook(
            lambda _module, _inputs, output, layer=layer: residuals.__setitem__(layer, output)
        )
    sentences = args.sentences.read_text(encoding="utf-8").splitlines()

    loop, n_tokens = time.perf_counter(), 0
    for number, sentence in enumerate(sentences):
        inputs = tokenizer(sentence, return_tensors="pt")
        ids = inputs["input_ids"][0].tolist()
        n_tokens += len(ids)
        model(**inputs)
        for layer, sae in saes.items():
            features = sae.encode(residuals[layer][0])
            with open(layer_folder(args.out, layer) / f"sentence_{number:04}.jsonl", "w", encoding="utf-8") as file:
                for position, token in enumerate(ids):
                    row = features[position]
                    active = torch.nonzero(row).squeeze(-1)
                    values, order = torch.sort(row[active], descending=True)
                    line = {
                        "token_pos": position,
                        "token_str": tokenizer.decode([token]),
                        "nnz": len(active),
                        "feat_ids": active[order].tolist(),
                        "feat_vals": values.tolist(),
                    }
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
    report(n_tokens, start, loop)


main()
