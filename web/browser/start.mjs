// A run of the fixtures' tiny model, the real server on it, and a browser that can reach nothing else.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../..", import.meta.url));
export const screenshots = join(root, "target/screenshots");

const program = process.env["LLAMASCOPE_BIN"] ?? join(root, "target/debug/llamascope");
const browserPath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
for (const [path, way] of [
  [program, "build it first (cargo build -p llamascope-app) or name it in LLAMASCOPE_BIN"],
  [browserPath, "install Debian's chromium or name one in CHROMIUM"],
])
  if (!existsSync(path)) throw new Error(`${path} is not there: ${way}`);

export const HOSTILE = `<img src=x onerror="window.hacked=1"><script>window.hacked=1</script> said the cat`;
const SENTENCES = [
  "The cat sat on the mat, and the cat sat on the hat.",
  HOSTILE,
  "東京は日本で一番大きな都市です。",
  "The dog sat on the log; the cat did not.",
  "A sign \u{1f469}\u200d\u{1f680} and \u202eletters the other way\u202c, \"quoted\".",
  ...Array.from({ length: 235 }, (_, n) => `Sentence number ${n + 5}: the cat counts to ${n * 7}.`),
];

/** Runs a command of the program on the fixtures' model, and returns the last line that it prints. */
function command(name, input, folder, ...options) {
  const fixtures = join(root, "fixtures/llama3");
  const args = [name, "--quiet", "--model", join(fixtures, "model"), "--sae", join(fixtures, "saes"), "--input", input, "--output-dir", folder, ...options];
  const done = spawnSync(program, args, { encoding: "utf8", cwd: folder });
  if (done.status !== 0) throw new Error(`llamascope ${args.join(" ")} ended with ${done.status}:\n${done.stderr}`);
  return done.stdout.trim().split("\n").at(-1);
}

const run = (folder, input, dtype) => command("run", input, folder, "--dtype", dtype).split("/").at(-1);
const explore = (input, folder) => command("explore", input, folder, "--contexts", "4");

/** Starts the server on a free port and waits for the address that it prints. */
export async function serve(folder) {
  const child = spawn(program, ["view", folder, "--no-open", "--port", "0"], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  const address = await new Promise((resolve, reject) => {
    const listen = (chunk) => {
      said += chunk;
      const found = /http:\/\/(?:127\.0\.0\.1|localhost):\d+/.exec(said);
      if (found) resolve(found[0]);
    };
    child.stdout.on("data", listen);
    child.stderr.on("data", listen);
    child.on("exit", (code) => reject(new Error(`llamascope view ended with ${code}:\n${said}`)));
    setTimeout(() => reject(new Error(`llamascope view printed no address:\n${said}`)), 20_000).unref();
  });
  return { address, stop: () => child.kill() };
}

/** Starts the browser. */
export function launch() {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  return chromium.launch({ executablePath: browserPath, args });
}

export async function start() {
  mkdirSync(screenshots, { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), "llamascope-web-"));
  const input = join(folder, "sentences.txt");
  writeFileSync(input, `${SENTENCES.join("\n")}\n`);
  const outputs = join(folder, "outputs");
  mkdirSync(outputs);
  const runs = { exact: run(outputs, input, "float32"), rounded: run(outputs, input, "bfloat16") };
  if (readdirSync(outputs).length !== 2) throw new Error("the two runs did not get two folders");
  explore(input, join(outputs, runs.rounded));
  const server = await serve(outputs);
  const browser = await launch().catch((error) => {
    server.stop();
    throw error;
  });
  return {
    runs,
    browser,
    /** Writes a run as one HTML file, and returns its address. */
    report(name, ...options) {
      const file = join(folder, "report.html");
      const done = spawnSync(program, ["report", join(outputs, name), "-o", file, ...options], { encoding: "utf8" });
      if (done.status !== 0) throw new Error(`llamascope report ended with ${done.status}:\n${done.stderr}`);
      return pathToFileURL(file).href;
    },
    address: server.address,
    sentences: SENTENCES,
    async stop() {
      await browser.close();
      server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
