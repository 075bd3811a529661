#!/usr/bin/env python3
"""How fast `llamascope view` answers, and how much memory it takes.

    python3 benches/viewer.py target/release/llamascope RUN [--calls 200]

Starts the server on the run, waits for its index, and asks for every kind of thing again and again, about other
sentences and features each time, over one connection, as the page does. Prints a table in Markdown: median, 95th
percentile and largest time of each call in milliseconds, bytes of the largest answer; then the memory of the server.
Only Python's own library is needed.
"""

import argparse
import http.client
import json
import random
import subprocess
import time
from urllib.parse import quote


def memory(pid):
    """Resident memory by kind, in MB: its own, and pages of mapped files, which the system can take back."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        lines = dict(line.split(":", 1) for line in status if ":" in line)
    return {key: int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM", "RssAnon", "RssFile")}


class Server:
    def __init__(self, binary, run):
        started = time.perf_counter()
        command = [binary, "view", run, "--no-open", "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.host = self.process.stdout.readline().strip().removeprefix("http://")
        self.connection = http.client.HTTPConnection(self.host, timeout=600)
        self.page_ms = self.timed("/")[0]
        self.id = self.get("/api/v1/runs")["runs"][0]["id"]
        self.base = "/api/v1/runs/" + quote(self.id)
        while self.timed(self.base)[1] == 503:
            time.sleep(0.1)
        self.ready_s = time.perf_counter() - started

    def timed(self, path, method="GET", body=None):
        headers = {"Content-Type": "application/json"} if body else {}
        started = time.perf_counter()
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        data = answer.read()
        return (time.perf_counter() - started) * 1000, answer.status, data

    def get(self, path):
        _, status, data = self.timed(path)
        if status != 200:
            raise SystemExit(f"{path}: {status} {data[:300]}")
        return json.loads(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("run")
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    server = Server(options.binary, options.run)
    base, dice = server.base, random.Random(1)
    detail = server.get(base)
    layers = [layer["layer"] for layer in detail["layers"]]
    rows = detail["layers"][0]["rows"]
    activations = sum(layer["nnz"] for layer in detail["layers"])
    print(f"{detail['n_sentences']:,} sentences, {len(layers)} layers, {rows:,} rows a layer, {activations:,} activations; "
          f"ready after {server.ready_s:.2f} s, page in {server.page_ms:.1f} ms\n")

    # Features of every kind: the commonest, the rarest, and some in between.
    features = []
    for layer in layers:
        total = server.get(f"{base}/features?layer={layer}&limit=1")["total"]
        for offset in (0, 1, 2, total // 100, total // 10, total // 2, total - 1):
            page = server.get(f"{base}/features?layer={layer}&limit=1&offset={offset}")
            features += [(layer, item["id"]) for item in page["items"]]
    word = server.get(f"{base}/sentences/0")["text"].split()[0]

    def sentence():
        return dice.randrange(detail["n_sentences"])

    def feature():
        layer, number = dice.choice(features)
        return f"{base}/features/{layer}/{number}"

    def spot():
        return "{}:{}".format(*dice.choice(features))

    layer = lambda: dice.choice(layers)
    calls = {
        "page": lambda: "/",
        "runs": lambda: "/api/v1/runs",
        "run": lambda: base,
        "health": lambda: f"{base}/health",
        "sentences": lambda: f"{base}/sentences?offset={sentence()}",
        "sentences, by length": lambda: f"{base}/sentences?sort=length",
        "sentences, search": lambda: f"{base}/sentences?q={quote(word)}",
        "sentences, regex": lambda: f"{base}/sentences?q={quote('[aeiou]{3}.*' + word)}&regex=true",
        "sentences, of a feature": lambda: f"{base}/sentences?feature={spot()}&sort=max",
        "sentence": lambda: f"{base}/sentences/{sentence()}",
        "activations, one layer": lambda: f"{base}/sentences/{sentence()}/activations?layers={layer()}",
        "activations, all layers": lambda: f"{base}/sentences/{sentence()}/activations",
        "heatmap": lambda: f"{base}/sentences/{sentence()}/heatmap?metric=novelty",
        "features": lambda: f"{base}/features?layer={layer()}",
        "features, filtered": lambda: f"{base}/features?layer={layer()}&sort=max&filter={quote('density<0.01 count>5')}",
        "feature": feature,
        "feature, top": lambda: f"{feature()}/activations",
        "feature, intervals": lambda: f"{feature()}/activations?mode=quantile",
        "feature, draw": lambda: f"{feature()}/activations?mode=random",
        "feature, histogram": lambda: f"{feature()}/histogram",
        "feature, token types": lambda: f"{feature()}/tokens",
        "feature, active together": lambda: f"{feature()}/neighbors",
        "scores": lambda: f"{base}/scores?layer={layer()}&limit=10000",
        "compare": lambda: f"{base}/compare?a=s:{sentence()},L:{layers[0]}&b=s:{sentence()},L:{layers[0]}",
    }
    encode = detail["weights"]["state"] == "available"
    if encode:
        calls["feature, decoder neighbours"] = lambda: f"{feature()}/neighbors?by=decoder"
        calls["feature, promoted tokens"] = lambda: f"{feature()}/logits"
    print("| call | median ms | p95 ms | largest ms | bytes |\n|---|---|---|---|---|")
    for name, path in calls.items():
        times, largest = [], 0
        for _ in range(options.calls):
            asked = path()
            took, status, data = server.timed(asked)
            if status != 200:
                raise SystemExit(f"{asked}: {status} {data[:300]}")
            times.append(took)
            largest = max(largest, len(data))
        times.sort()
        print(f"| {name} | {times[len(times) // 2]:.2f} | {times[int(len(times) * 0.95)]:.2f} | {times[-1]:.2f} | {largest:,} |")
    if encode:
        text = "The capital of France is Paris, and the capital of Japan is Tokyo, which is the largest city in the country today."
        body = json.dumps({"run": server.id, "text": text})
        first, _, data = server.timed("/api/v1/encode", "POST", body)
        times = sorted(server.timed("/api/v1/encode", "POST", body)[0] for _ in range(20))
        tokens = len(json.loads(data)["sentence"]["tokens"])
        print(f"\nencode, {tokens} tokens: the first {first:.0f} ms, then {times[10]:.0f} ms (median of 20), {times[-1]:.0f} ms at most")
    used = memory(server.process.pid)
    print(f"\nmemory of the server: {used['RssAnon']:.0f} MB of its own, {used['RssFile']:.0f} MB of mapped files, "
          f"{used['VmHWM']:.0f} MB at most together")
    server.process.terminate()


if __name__ == "__main__":
    main()
