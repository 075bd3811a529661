"""What the repeats say: medians and spans, ratios of neighbours in time, the table, a section of RESULTS.md."""

import os
import platform
import statistics
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from inputs import REPOSITORY

Repeats = list[dict]
"""Of one contender: its figures (and a few words), a dictionary a repeat."""

FLAGS = ["avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "bf16", "sve"]


@dataclass(frozen=True)
class Comparison:
    what: str
    ours: str
    our_figure: str
    theirs: str
    their_figure: str

    @property
    def more_is_better(self) -> bool:
        return self.our_figure.endswith("tok/s")


def comparisons() -> list[Comparison]:
    rows = []
    for theirs, ours in [("tuned-f32", "ours-f32"), ("tuned-bf16", "ours-bf16"), ("seed-f32", "ours-f32"),
                         ("seed-f32", "ours-bf16"), ("seed-bf16", "ours-bf16")]:
        for figure, what in [("loop tok/s", "whole job, tokens/s of the loop"), ("wall s", "whole job, whole process, s"),
                             ("peak MiB", "whole job, peak memory, MiB")]:
            rows.append(Comparison(what, ours, figure, theirs, figure))
    for short in ("f32", "bf16"):
        ours, theirs = f"start-ours-{short}", f"start-python-{short}"
        rows.append(Comparison("one sentence, start to first row, s", ours, "first row s", theirs, "first row s"))
    for kind in ("bf16", "f32", "q8_0", "q4_1"):
        what = "prefill alone, tokens/s"
        rows.append(Comparison(what, f"prefill-{kind}", "forward tok/s", f"llama.cpp-{kind}", "loop tok/s"))
    for what, our_figure, their_figure in [
        ("a Llama-3.1-8B layer, T=512, against bf16, ms/token", "forward ms", "layer_bfloat16 ms"),
        ("a Llama-3.1-8B layer, T=512, against f32, ms/token", "forward ms", "layer_float32 ms"),
        ("a 4096->32768 JumpReLU encode, against f32, ms/token", "encode ms", "encode_float32 ms"),
        ("a 4096->32768 JumpReLU encode, against bf16, ms/token", "encode ms", "encode_bfloat16 ms"),
    ]:
        rows.append(Comparison(what, "ours-8b", our_figure, "torch-8b", their_figure))
    return rows


def number(x: float) -> str:
    return f"{x:.0f}" if x >= 100 else f"{x:.3g}"


def span(values: list[float], unit: str = "") -> str:
    return f"{number(statistics.median(values))}{unit} ({number(min(values))}-{number(max(values))})"


def table(results: dict[str, Repeats]) -> list[str]:
    """Markdown; a ratio above 1 is in our favour, and is taken within each repeat, where both ran close together."""
    lines = ["| what | ours | | theirs | | ratio |", "|---|---|---|---|---|---|"]
    for row in comparisons():
        if row.ours not in results or row.theirs not in results:
            continue
        # What a machine cannot do is not measured there.
        if any(row.their_figure not in repeat for repeat in results[row.theirs]):
            continue
        ours = [repeat[row.our_figure] for repeat in results[row.ours]]
        theirs = [repeat[row.their_figure] for repeat in results[row.theirs]]
        ratios = [a / b if row.more_is_better else b / a for a, b in zip(ours, theirs)]
        lines.append(f"| {row.what} | {row.ours} | {span(ours)} | {row.theirs} | {span(theirs)} | {span(ratios, 'x')} |")
    return lines


def machine() -> dict[str, object]:
    """What the figures hold for; Linux only."""
    cpu: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        cpu.setdefault(key.strip(), value.strip())
    flags = set((cpu.get("flags") or cpu.get("Features") or "").split())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu.get("model name", platform.machine()),
        "cores": os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "memory_gib": round(pages / 2**30, 1),
        "system": platform.platform(),
        "load_average_before": os.getloadavg()[0],
    }


def output(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=REPOSITORY)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def versions(llamascope: Path, requirements: list[Path]) -> dict[str, str]:
    pinned = [line for file in requirements for line in file.read_text().splitlines() if line and not line.startswith("#")]
    changed = output("git", "status", "--porcelain", "--untracked-files=no") != ""
    return {
        "llamascope": output(llamascope, "--version"),
        "commit": output("git", "rev-parse", "--short", "HEAD") + (" and changes" if changed else ""),
        "python": platform.python_version(),
        "packages": ", ".join(pinned),
    }


def said(results: dict[str, Repeats], key: str) -> str:
    words = {repeat[key] for repeats in results.values() for repeat in repeats if key in repeat}
    return "; ".join(sorted(words)) or "not run"


def section(record: dict) -> str:
    """One run for RESULTS.md."""
    host, version = record["machine"], record["versions"]
    return "\n".join([
        f"## {record['date']}, {host['cpu']}",
        "",
        f"{host['cores']} cores ({', '.join(host['flags'])}), {host['memory_gib']} GiB, {host['system']}; load average "
        f"{host['load_average_before']:.2f} before the start. {version['llamascope']}, commit {version['commit']}, "
        f"kernel {said(record['results'], 'kernel')}. Python {version['python']}, {version['packages']}; llama.cpp says: "
        f"`{said(record['results'], 'system')}`.",
        "",
        f"{record['threads']} threads, {record['sentences']} sentences, {record['repeats']} repeats, alternating: medians "
        "(least-most). A ratio above 1 is in our favour. Agreement of the rows, least Jaccard index of a layer: "
        f"{', '.join(record['agreement']) or 'not compared'}. "
        f"Tokens of a batch: {', '.join(f'{name} {size}' for name, size in record['batch_tokens'].items()) or 'none'}.",
        "",
        *table(record["results"]),
        "",
    ])


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
