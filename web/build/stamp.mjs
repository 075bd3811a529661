// Writes the hash of what the bundle was built from beside it, so that a stale bundle is seen without Node: a test of
// crates/serve computes the same. Files of web/ itself and all of web/src and web/public, in byte order of their paths.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const files = readdirSync(root, { withFileTypes: true })
  .filter((entry) => entry.isFile() && !entry.name.startsWith("."))
  .map((entry) => entry.name);
for (const folder of ["src", "public"])
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true, recursive: true }))
    if (entry.isFile()) files.push(join(entry.parentPath, entry.name).slice(root.length).replaceAll("\\", "/"));

const hash = createHash("sha256");
for (const file of files.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) {
  const bytes = readFileSync(join(root, file));
  hash.update(`${file}\n${bytes.length}\n`).update(bytes);
}
writeFileSync(join(root, "../crates/serve/dist/.build-inputs.sha256"), `${hash.digest("hex")}\n`);
