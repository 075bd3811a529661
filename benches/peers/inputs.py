"""The inputs of the comparison, each made once under the work folder: sentences, models, SAEs."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import install

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
WORKERS = HERE / "workers"

LAYERS = [0, 5, 10, 15, 20, 25, 29]
"""Seven taps; the last layer is among them, so that everybody runs the whole model."""

GGUF_TYPES = ["f32", "bf16", "q8_0", "q4_1"]
STEP = 7919
"""Shares no factor with the number of articles, which are sorted by title: sentences come from all over them."""

LENGTHS = range(40, 301)
"""Characters of a sentence."""

LONG_TOKENS = 512
LONG_SENTENCES = 8


@dataclass(frozen=True)
class Inputs:
    """Where everything is, and the programs that read it."""

    llamascope: Path
    python: Path
    python_llama: Path
    folder: Path
    threads: int

    def model(self, dtype: str) -> Path:
        return self.folder / "model" / dtype

    def gguf(self, kind: str) -> Path:
        return self.folder / "gguf" / f"{kind}.gguf"

    @property
    def saes(self) -> Path:
        return self.folder / "saes"

    @property
    def sentences(self) -> Path:
        return self.folder / "sentences.txt"

    @property
    def few_sentences(self) -> Path:
        return self.folder / "few.txt"

    @property
    def one_sentence(self) -> Path:
        return self.folder / "one.txt"

    @property
    def lead_sections(self) -> Path:
        return self.folder / "lead_sections.jsonl"

    @property
    def llama8b(self) -> Path:
        return self.folder / "llama8b"

    @property
    def long_sentences(self) -> Path:
        return self.folder / "long.txt"


def once(target: Path, make: Callable[[Path], None]) -> None:
    """`make` gets a path beside the target, which takes the target's name when all of it is there."""
    if target.exists():
        return
    print(f"making {target}", file=sys.stderr)
    unfinished = target.with_name(f"unfinished-{target.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    make(unfinished)
    os.replace(unfinished, target)


def articles(path: Path) -> list[str]:
    texts = [article["extract"] for _, article in sorted(json.loads(path.read_text(encoding="utf-8")).items())]
    return [texts[i * STEP % len(texts)] for i in range(len(texts))]


def first_sentences(texts: list[str], count: int) -> list[str]:
    """The first sentence of each text that has one of ordinary length and is on one line."""
    found = (re.split(r"(?<=[.!?])\s+(?=[A-Z])", text, maxsplit=1)[0].strip() for text in texts)
    return [sentence for sentence in found if len(sentence) in LENGTHS and len(sentence.splitlines()) == 1][:count]


def write_lines(lines: list[str]) -> Callable[[Path], None]:
    return lambda path: path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def call(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def make_smollm2(inputs: Inputs, n_sentences: int, downloads: Path) -> None:
    gguf, text = install.fetch(install.MODEL, downloads), install.fetch(install.TEXT, downloads)
    texts = articles(text)
    sentences = first_sentences(texts, n_sentences)
    inputs.folder.mkdir(parents=True, exist_ok=True)
    write_lines(sentences)(inputs.sentences)
    write_lines(sentences[:20])(inputs.few_sentences)
    write_lines(sentences[:1])(inputs.one_sentence)
    once(inputs.folder / "model", lambda out: call(inputs.python, WORKERS / "model_folders.py", gguf, out))

    write_lines([json.dumps({"text": text}) for text in texts])(inputs.lead_sections)

    def dictionaries(out: Path) -> None:
        call(
            inputs.llamascope, "dictionary", "--model", inputs.model("f32"), "--layers", ",".join(map(str, LAYERS)),
            "--input", inputs.lead_sections, "--text-column", "text", "--tokens", 12000, "--output-dir", out, "--quiet",
        )

    once(inputs.saes, dictionaries)

    def quantise(out: Path) -> None:
        out.mkdir()
        call(inputs.python_llama, WORKERS / "quantise.py", gguf, out)
        shutil.copyfile(gguf, out / "q4_1.gguf")

    once(inputs.folder / "gguf", quantise)


def make_llama8b(inputs: Inputs) -> None:
    """One layer and one SAE of the Llama-3.1-8B shape; 4 GB."""
    maker = REPOSITORY / "fixtures" / "make_llama8b.py"
    once(inputs.llama8b, lambda out: call(inputs.python, maker, out, "--layers", "0", "--saes", "0"))
    tokenizer = inputs.llama8b / "model" / "tokenizer.json"
    once(inputs.long_sentences, lambda out: call(
        inputs.python, WORKERS / "long_sentences.py", tokenizer, inputs.lead_sections, LONG_TOKENS, LONG_SENTENCES, out
    ))
