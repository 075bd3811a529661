"""
    python prefill.py MODEL.gguf SENTENCES --threads 2 [--batch-tokens N]

llama.cpp's prefill: all sentences through the model, as many at once as fit a batch, no logits asked for. Prints its
timings as JSON.
"""

import argparse
import json
import time
from pathlib import Path

import llama_cpp

BATCH_TOKENS = 512
MAX_SEQUENCES = 256
MAX_TOKENS = 8192


def tokenise(vocab, text: str) -> list[int]:
    data = text.encode()
    tokens = (llama_cpp.llama_token * MAX_TOKENS)()
    count = llama_cpp.llama_tokenize(vocab, data, len(data), tokens, MAX_TOKENS, True, False)
    if count < 0:
        raise SystemExit(f"a sentence of {-count} tokens, more than {MAX_TOKENS}")
    return tokens[:count]


def batches(encoded: list[list[int]], most: int) -> list[list[list[int]]]:
    groups: list[list[list[int]]] = [[]]
    for ids in encoded:
        if groups[-1] and (sum(map(len, groups[-1])) + len(ids) > most or len(groups[-1]) == MAX_SEQUENCES):
            groups.append([])
        groups[-1].append(ids)
    return groups


def fill(batch, sequences: list[list[int]]) -> None:
    at = 0
    for sequence, ids in enumerate(sequences):
        for position, token in enumerate(ids):
            batch.token[at] = token
            batch.pos[at] = position
            batch.n_seq_id[at] = 1
            batch.seq_id[at][0] = sequence
            batch.logits[at] = 0
            at += 1
    batch.n_tokens = at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("sentences", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch-tokens", type=int, default=BATCH_TOKENS)
    args = parser.parse_args()

    start = time.perf_counter()
    llama_cpp.llama_backend_init()
    quiet = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)
    llama_cpp.llama_log_set(quiet, None)
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(args.model).encode(), params)
    vocab = llama_cpp.llama_model_get_vocab(model)
    encoded = [tokenise(vocab, line) for line in args.sentences.read_text(encoding="utf-8").splitlines()]
    most = max(args.batch_tokens, *map(len, encoded))

    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = most
    params.n_seq_max = MAX_SEQUENCES
    # One cache for all: sentences of different lengths then share a batch without being split into equal ones.
    params.kv_unified = True
    params.n_threads = params.n_threads_batch = args.threads
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise SystemExit(f"{args.model}: llama.cpp could not make a context of {most} tokens")
    memory = llama_cpp.llama_get_memory(context)
    batch = llama_cpp.llama_batch_init(most, 0, 1)

    loop = time.perf_counter()
    for sequences in batches(encoded, most):
        llama_cpp.llama_memory_clear(memory, False)
        fill(batch, sequences)
        if llama_cpp.llama_decode(context, batch):
            raise SystemExit("llama_decode failed")
    llama_cpp.llama_synchronize(context)
    end = time.perf_counter()
    print(json.dumps({
        "tokens": sum(map(len, encoded)),
        "load_s": loop - start,
        "loop_s": end - loop,
        "system": llama_cpp.llama_print_system_info().decode(),
    }))


main()
