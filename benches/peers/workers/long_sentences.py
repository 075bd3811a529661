"""
    python long_sentences.py TOKENIZER.json TEXTS.jsonl TOKENS COUNT OUT

Writes COUNT lines of as many words as make at most TOKENS tokens, from the texts in order.
"""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file(sys.argv[1])
texts = Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()
most, count = int(sys.argv[3]), int(sys.argv[4])
words = iter(word for text in texts for word in json.loads(text)["text"].split())
lines, line = [], ""
while len(lines) < count:
    longer = f"{line} {next(words)}".strip()
    if len(tokenizer.encode(longer).ids) > most:
        lines.append(line)
        line = ""
    else:
        line = longer
Path(sys.argv[5]).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
