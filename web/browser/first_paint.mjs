// How soon the page shows something, and all of a sentence: the times of a fresh browser profile, in milliseconds.
//
//     LLAMASCOPE_BIN=target/release/llamascope node web/browser/first_paint.mjs OUTPUT_DIR [TIMES]
import { launch, serve } from "./start.mjs";

const [folder, times = "10"] = process.argv.slice(2);
const server = await serve(folder);
const browser = await launch();
const measured = [];
for (let i = 0; i < Number(times); i++) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  await page.goto(server.address);
  // Bars stand there when the run, its first sentence and its features have come.
  await page.locator("ol.bars li").first().waitFor();
  measured.push(
    await page.evaluate(() => ({
      "first contentful paint": performance.getEntriesByName("first-contentful-paint")[0].startTime,
      "a sentence with its bars": performance.now(),
    })),
  );
  await context.close();
}
for (const what of Object.keys(measured[0])) {
  const sorted = measured.map((one) => one[what]).sort((a, b) => a - b);
  const at = (share) => Math.round(sorted[Math.floor((sorted.length - 1) * share)]);
  console.log(`${what}: median ${at(0.5)} ms (${at(0)}-${at(1)})`);
}
await browser.close();
server.stop();
