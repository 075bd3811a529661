#!/usr/bin/env python3
"""Chooses features to look at, by a rule and not by taste, and prints each with its strongest contexts.

    python3 demo/features.py outputs/run_20260102_030405 demo/saes --layer 10

It reads a run over the demo's sentences and what `llamascope explore` has written for the same SAE. The rule:

1. Of a sentence's tokens but the first, which is an attention sink, take the active features that are rare in the corpus
   (on at most one token in `--rare`), have `--contexts` contexts there from as many documents, and are strongest on at
   least `--kinds` different tokens in these, so that a feature of one word is not among them.
2. The sentence's feature is the one whose value there comes nearest to its largest value in the corpus.
3. Of all sentences' features the `--count` that come nearest, each feature once.
"""

import argparse
import gzip
import json
import pathlib

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", type=pathlib.Path)
parser.add_argument("explored", type=pathlib.Path, help="folder with the explored_layer_*.jsonl.gz of the run's SAEs")
parser.add_argument("--layer", type=int, required=True)
parser.add_argument("--count", type=int, default=10)
parser.add_argument("--rare", type=int, default=200)
parser.add_argument("--contexts", type=int, default=4)
parser.add_argument("--kinds", type=int, default=3)
parser.add_argument("--shown", type=int, default=3, help="contexts to print")
args = parser.parse_args()

manifest = json.loads((args.run / "run.json").read_text(encoding="utf-8"))
sae = next((sae for sae in manifest["saes"] if sae["layer"] == args.layer), None)
if sae is None:
    parser.error(f"{args.run} has no layer {args.layer}")
name = f"explored_layer_{args.layer:02}_{sae['blake3'][:16]}.jsonl.gz"
path = next(args.explored.rglob(name), None)
if path is None:
    parser.error(f"there is no {name} in {args.explored}: make it with `llamascope explore`")
with gzip.open(path, "rt", encoding="utf-8") as lines:
    header, pieces = json.loads(next(lines)), json.loads(next(lines))
    features = {feature["id"]: feature for feature in map(json.loads, lines)}
names = ("document", "offset", "more", "at", "tokens", "values")
for feature in features.values():
    feature["contexts"] = [dict(zip(names, window)) for window in feature["contexts"]]


def peak(window: dict) -> str:
    return pieces[window["tokens"][window["at"]]].strip().lower()


def fits(feature: dict) -> bool:
    windows = feature["contexts"][: args.contexts]
    return (
        feature["rows"] * args.rare <= header["rows"]
        and len({window["document"] for window in windows}) == args.contexts
        and len({peak(window) for window in windows}) >= args.kinds
    )


def text(window: dict) -> str:
    words = [pieces[token] for token in window["tokens"]]
    at = window["at"]
    bold = words[at]
    lead = bold[: len(bold) - len(bold.lstrip())]
    before, after = "".join(words[:at]) + lead, "".join(words[at + 1 :])
    ends = ["…" if more else "" for more in window["more"]]
    line = f"{ends[0]}{before}**{bold.strip() or '␣'}**{after}{ends[1]}"
    return " ".join(line.replace("|", "\\|").split())


chosen = {}
for number, file in enumerate(sorted((args.run / f"layer_{args.layer:02}").glob("sentence_*.jsonl"))):
    best = (0.0,)
    for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        for id, value in zip(row["feat_ids"], row["feat_vals"]):
            feature = features.get(id)
            if row["token_pos"] > 0 and feature and id not in chosen and fits(feature):
                best = max(best, (value / feature["max"], id, number, row["token_str"], value))
    if len(best) > 1:
        chosen[best[1]] = best

for share, id, sentence, token, value in sorted(chosen.values(), reverse=True)[: args.count]:
    feature = features[id]
    print(f"\n**{id}** - sentence {sentence}, `{token.strip()}`: {value:.1f} of {feature['max']:.1f}; "
          f"on {feature['rows']:,} of {header['rows']:,} tokens; promotes "
          + ", ".join(f"`{pieces[token].strip()}`" for token, _ in feature["promoted"][:5]))
    for window in feature["contexts"][: args.shown]:
        print(f"- {text(window)}")
