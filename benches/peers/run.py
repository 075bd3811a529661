"""
Runs llamascope, two ways of doing its job in Python, and llama.cpp's prefill side by side, alternating, and prints ratios.

    cargo build --release && python3 benches/peers/run.py --work DIR

See README.md beside this file.
"""

import argparse
import json
import shutil
import sys
from collections import defaultdict
from pathlib import Path

import inputs as prepare
import install
import measure
import report
from contenders import Contender, contenders, ours
from inputs import HERE, LAYERS, REPOSITORY, Inputs

RESULTS = HERE.parent / "RESULTS.md"
AGREEMENT = [("ours-f32", "seed-f32"), ("ours-f32", "tuned-f32"), ("ours-bf16", "seed-bf16"), ("ours-bf16", "tuned-bf16")]
BATCH_TOKENS = [256, 512, 1024, 2048]

SAME = 0.999
"""Jaccard index above which two models are the same; the rest is rounding beside a threshold."""

QUIET = 0.3
"""Load average above which figures are not to be trusted."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--work", type=Path, required=True, help="folder for environments, inputs and rows: 15 GB, used again next time")
    add("--only", nargs="+", metavar="NAME", help="contenders or groups of them: job, start, prefill, 8b")
    add("--repeats", type=int, default=5)
    add("--sentences", type=int, default=400)
    add("--threads", type=int, default=2)
    add("--llamascope", type=Path, default=REPOSITORY / "target" / "release" / "llamascope", help="the program to measure")
    add("--venv", type=Path, help="an environment that has requirements.txt already")
    add("--venv-llama", type=Path, help="an environment that has requirements-llama.txt already")
    add("--json", type=Path, help="where all figures go [default: WORK/peers.json]")
    add("--record", action="store_true", help=f"add a section to {RESULTS.relative_to(REPOSITORY)}")
    return parser.parse_args()


def chosen(all_of_them: list[Contender], only: list[str] | None) -> list[Contender]:
    names = {name for c in all_of_them for name in (c.name, c.group)}
    if unknown := set(only or []) - names:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(sorted(names))}")
    return [c for c in all_of_them if not only or {c.name, c.group} & set(only)]


def repeat(
    contender: Contender, out: Path, environment: dict[str, str], batch_tokens: int | None = None
) -> dict[str, float | str]:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    command = [str(part) for part in contender.command(out)]
    command += ["--batch-tokens", str(batch_tokens)] if batch_tokens else []
    process = measure.run(command, environment, out if contender.writes_rows else None)
    seen: dict[str, float | str] = {"wall s": process.wall_s, "peak MiB": process.peak_mib}
    if process.first_row_s is not None:
        seen["first row s"] = process.first_row_s
    return seen | contender.read(process)


def tune(run: list[Contender], work: Path, environment: dict[str, str]) -> dict[str, int]:
    """The best size of a batch for each peer that has one; found once for a work folder."""
    file = work / "batch_tokens.json"
    best = json.loads(file.read_text()) if file.exists() else {}
    for contender in run:
        if contender.tunable and contender.name not in best:
            rates = {
                size: repeat(contender, work / "rows" / contender.name, environment, size)["loop tok/s"]
                for size in BATCH_TOKENS
            }
            best[contender.name] = max(rates, key=rates.get)
            tried = ", ".join(f"{size}: {report.number(rate)}" for size, rate in rates.items())
            print(f"{contender.name}, tokens/s by tokens of a batch: {tried}", file=sys.stderr)
            file.write_text(json.dumps(best, indent=1) + "\n")
    return best


def rows_of(out: Path) -> Path:
    """Our rows are in a folder of the run, the others' right there."""
    return next(out.glob("run_*"), out)


def least_jaccard(llamascope: Path, ours: Path, theirs: Path) -> float:
    compared = measure.run([str(llamascope), "compare", "--json", str(rows_of(ours)), str(rows_of(theirs))], {})
    return min(layer["jaccard"] for layer in json.loads(compared.stdout)["layers"])


def check_folder(inputs: Inputs, environment: dict[str, str], scratch: Path) -> None:
    """The folder made of the GGUF file must be the same model; our float32 is the judge."""
    runs = []
    for name, model in [("gguf", inputs.gguf("q4_1")), ("folder", inputs.model("f32"))]:
        judge = ours(inputs, name, "check", model, inputs.saes, LAYERS, inputs.few_sentences, "float32")
        repeat(judge, scratch / name, environment)
        runs.append(scratch / name)
    found = least_jaccard(inputs.llamascope, *runs)
    if found < SAME:
        raise SystemExit(f"{inputs.model('f32')} is not the model of the GGUF file: a Jaccard index of {found}, not {SAME}")


def main() -> None:
    args = arguments()
    llamascope = args.llamascope.resolve()
    if not llamascope.is_file():
        raise SystemExit(f"{llamascope} is not there: run `cargo build --release`, or name another with --llamascope")
    work = args.work.resolve()
    python = args.venv.absolute() / "bin" / "python" if args.venv else install.python_venv(work)
    python_llama = args.venv_llama.absolute() / "bin" / "python" if args.venv_llama else install.llama_venv(work)
    inputs = Inputs(llamascope, python, python_llama, work / "inputs", args.threads)
    run = chosen(contenders(inputs), args.only)
    prepare.make_smollm2(inputs, args.sentences, work / "downloads")
    if any(c.group == "8b" for c in run):
        prepare.make_llama8b(inputs)

    # What this machine was doing before is asked before we load it ourselves.
    machine = report.machine()
    if machine["load_average_before"] > QUIET:
        load = f"load average {machine['load_average_before']:.2f}"
        print(f"{load}: something else is running, the figures will be off", file=sys.stderr)
    threads = str(args.threads)
    environment = {"OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    check_folder(inputs, environment, work / "rows" / "check")

    best = tune(run, work, environment)

    results: dict[str, report.Repeats] = defaultdict(list)
    for number in range(args.repeats):
        for contender in run:
            figures = repeat(contender, work / "rows" / contender.name, environment, best.get(contender.name))
            results[contender.name].append(figures)
            shown = ", ".join(f"{name} {report.number(x)}" for name, x in figures.items() if not isinstance(x, str))
            print(f"{number + 1}/{args.repeats} {contender.name}: {shown}", file=sys.stderr)

    agreement = [
        f"{a} and {b} {least_jaccard(llamascope, work / 'rows' / a, work / 'rows' / b):.4f}"
        for a, b in AGREEMENT if a in results and b in results
    ]
    record = {
        "date": report.now(),
        "machine": machine,
        "versions": report.versions(llamascope, [HERE / "requirements.txt", HERE / "requirements-llama.txt"]),
        "threads": args.threads,
        "sentences": args.sentences,
        "repeats": args.repeats,
        "batch_tokens": {name: size for name, size in best.items() if name in results},
        "agreement": agreement,
        "results": results,
    }
    (args.json or work / "peers.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    section = report.section(record)
    print(section)
    if args.record:
        with open(RESULTS, "a", encoding="utf-8") as file:
            file.write("\n" + section)


if __name__ == "__main__":
    main()
