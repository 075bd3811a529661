"""Who runs: a name, a command, and how to read what it says of itself."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable

from inputs import GGUF_TYPES, LAYERS, WORKERS, Inputs
from measure import Process

Figures = dict[str, float | str]
"""Named with their unit last; the strings say what the figures were made with."""


@dataclass(frozen=True)
class Contender:
    """`command` gets an empty folder for rows; `read` makes figures of what the process printed."""

    name: str
    group: str
    command: Callable[[Path], list[object]]
    read: Callable[[Process], Figures]
    writes_rows: bool = True
    tunable: bool = False
    """Takes `--batch-tokens`, for which the best is looked for before anything counts."""


def last_line(process: Process) -> str:
    return process.stdout.strip().splitlines()[-1]


def read_worker(process: Process) -> Figures:
    said = json.loads(last_line(process))
    figures = {"tokens": said["tokens"], "loop tok/s": said["tokens"] / said["loop_s"]}
    return figures | ({"system": said["system"]} if "system" in said else {})


def read_torch_8b(process: Process) -> Figures:
    return json.loads(last_line(process))


def run_json(process: Process) -> dict:
    return json.loads((Path(last_line(process)) / "run.json").read_text(encoding="utf-8"))


def read_run(process: Process) -> Figures:
    """The loop is everything but loading and tokenising, as in the Python ways."""
    run = run_json(process)
    tokens, timings = run["counts"]["tokens"], run["timings"]
    loop_s = timings["total_s"] - timings["load_s"] - timings["tokenize_s"]
    return {
        "kernel": run["device"]["kernel"],
        "tokens": tokens,
        "loop tok/s": tokens / loop_s,
        "forward tok/s": tokens / timings["forward_s"],
        "forward ms": 1e3 * timings["forward_s"] / tokens,
        "encode ms": 1e3 * timings["encode_s"] / tokens,
    }


def ours(
    inputs: Inputs, name: str, group: str, model: Path, saes: Path, layers: list[int], text: Path, dtype: str
) -> Contender:
    def command(out: Path) -> list[object]:
        return [
            inputs.llamascope, "run", "--model", model, "--sae", saes, "--layers", ",".join(map(str, layers)),
            "--input", text, "--dtype", dtype, "--threads", inputs.threads, "--output-dir", out, "--quiet",
        ]
    return Contender(name, group, command, read_run)


def python(inputs: Inputs, name: str, group: str, worker: str, text: Path, dtype: str) -> Contender:
    def command(out: Path) -> list[object]:
        return [
            inputs.python, WORKERS / worker, inputs.model(SHORT[dtype]), inputs.saes, ",".join(map(str, LAYERS)), text, out,
            "--dtype", dtype, "--threads", inputs.threads,
        ]
    return Contender(name, group, command, read_worker)


def llama_cpp(inputs: Inputs, kind: str) -> Contender:
    def command(_out: Path) -> list[object]:
        return [inputs.python_llama, WORKERS / "prefill.py", inputs.gguf(kind), inputs.sentences, "--threads", inputs.threads]
    return Contender(f"llama.cpp-{kind}", "prefill", command, read_worker, writes_rows=False, tunable=True)


def torch_8b(inputs: Inputs) -> Contender:
    def command(_out: Path) -> list[object]:
        return [
            inputs.python, WORKERS / "torch_8b.py", inputs.llama8b / "model", inputs.llama8b / "saes",
            inputs.long_sentences, "--threads", inputs.threads,
        ]
    return Contender("torch-8b", "8b", command, read_torch_8b, writes_rows=False)


SHORT = {"float32": "f32", "bfloat16": "bf16"}


def contenders(inputs: Inputs) -> list[Contender]:
    """Groups: `job` (the whole job), `start` (one sentence), `prefill` (against llama.cpp), `8b` (one layer, one SAE)."""
    found = []
    for dtype, short in SHORT.items():
        model = inputs.model(short)
        found += [
            python(inputs, f"seed-{short}", "job", "seed_way.py", inputs.sentences, dtype),
            replace(python(inputs, f"tuned-{short}", "job", "tuned.py", inputs.sentences, dtype), tunable=True),
            ours(inputs, f"ours-{short}", "job", model, inputs.saes, LAYERS, inputs.sentences, dtype),
            python(inputs, f"start-python-{short}", "start", "seed_way.py", inputs.one_sentence, dtype),
            ours(inputs, f"start-ours-{short}", "start", model, inputs.saes, LAYERS, inputs.one_sentence, dtype),
        ]
    for kind in GGUF_TYPES:
        # Quantised weights times bfloat16 rows: no coarser than llama.cpp, which rounds the rows to 8 bits.
        dtype = "float32" if kind == "f32" else "bfloat16"
        last = [LAYERS[-1]]
        found += [
            llama_cpp(inputs, kind),
            ours(inputs, f"prefill-{kind}", "prefill", inputs.gguf(kind), inputs.saes, last, inputs.sentences, dtype),
        ]
    llama8b = inputs.llama8b
    found += [
        torch_8b(inputs),
        ours(inputs, "ours-8b", "8b", llama8b / "model", llama8b / "saes", [0], inputs.long_sentences, "bfloat16"),
    ]
    return found
