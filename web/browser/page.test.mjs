// The page in a real browser, on a real server, over a run of the fixtures.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { HOSTILE, screenshots, start } from "./start.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
let world;
before(async () => {
  world = await start();
});
after(() => world?.stop());

/** Opens a page, runs the test, and holds it to what every test has to hold: nothing external, no error. */
async function visit(path, options, act) {
  await open(world.address + path, options, (url) => url.origin === world.address, act);
}

async function open(address, options, isOurs, act) {
  const context = await world.browser.newContext({ viewport: { width: 1440, height: 900 }, locale: "en-US", ...options });
  const strange = [];
  await context.route("**/*", (route) => {
    const url = new URL(route.request().url());
    if (isOurs(url)) return route.continue();
    strange.push(`request to ${url}`);
    return route.abort();
  });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  page.on("pageerror", (error) => strange.push(`error ${error.message}`));
  page.on("dialog", (dialog) => {
    strange.push(`dialog ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) strange.push(message.text());
  });
  try {
    await page.goto(address);
    await act(page);
    assert.deepEqual(strange, []);
  } finally {
    await context.close();
  }
}

const at = (rest) => `/r/${world.runs.exact}${rest}`;
const api = async (rest) => {
  const response = await fetch(`${world.address}/api/v1/runs/${world.runs.exact}${rest}`);
  assert.equal(response.status, 200, rest);
  return response.json();
};
const ready = (page) => page.waitForSelector(".bar, .bars + p, .middle .block > p");
const shot = (page, name) => page.screenshot({ path: join(screenshots, `${name}.png`) });
const query = (page) => new URL(page.url()).searchParams;
const locked = (page) => page.$eval('.strip [aria-pressed="true"]', (token) => Number(token.dataset.row));
/** Waits until an expression has a value. Asked for from outside: the page's policy forbids it to evaluate strings. */
async function settled(page, probe, wanted) {
  const last = Date.now() + 30_000;
  for (;;) {
    const found = await page.evaluate(probe).catch((error) => `not yet: ${error.message}`);
    if (JSON.stringify(found) === JSON.stringify(wanted)) return;
    if (Date.now() > last) assert.deepEqual(found, wanted, probe);
    await page.waitForTimeout(30);
  }
}
/** The words of the token strip, run together. */
const WORDS = '[...document.querySelectorAll(".strip .text")].map((one) => one.textContent).join("")';
const shows = (page, word) => settled(page, `${WORDS}.includes(${JSON.stringify(word)})`, true);

async function violations(page) {
  // axe is put in by the debugger, so the page's policy need not allow it.
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return found.violations
    .filter((one) => one.impact === "serious" || one.impact === "critical")
    .map((one) => `${one.id}: ${one.nodes.map((node) => `${node.target} ${node.failureSummary}`).join("; ")}`);
}

test("the first screen shows a sentence, a locked token, its bars and a feature", async () => {
  await visit("/", {}, async (page) => {
    await ready(page);
    await page.waitForSelector("article h2");
    await shows(page, "Thecatsat");
    assert.ok((await page.$$(".bar")).length > 3);
    assert.equal((await page.$$('.strip [aria-pressed="true"]')).length, 1);
    const bar = page.locator(".bar").first();
    const id = await bar.getAttribute("data-feature");
    assert.ok((await page.textContent("article h2")).endsWith(` ${id}`));
    const inks = await page.evaluate(() => ["li:first-child > .bar .ink", "article .swatch"].map((one) => getComputedStyle(document.querySelector(one)).backgroundColor));
    assert.equal(inks[0], inks[1]);
    await page.waitForSelector(".cell canvas");
    await page.waitForTimeout(300);
    await shot(page, "first-light");
  });
});

test("sentences are searched by text, regular expression, Japanese and feature", async () => {
  await visit(at("/s/0?L=1"), {}, async (page) => {
    const total = (wanted) => settled(page, `Number(document.querySelector('nav [role="option"]')?.getAttribute("aria-setsize") ?? 0)`, wanted);
    await total(world.sentences.length);
    await page.fill("#search", "東京");
    await total(1);
    assert.equal(await page.textContent("nav mark"), "東京");
    await page.fill("#search", "^The (cat|dog) sat");
    await page.click("nav button[aria-pressed]");
    await total(2);
    await page.fill("#search", "(");
    await page.waitForSelector("nav [role=alert]");
    await page.fill("#search", "");
    await page.click("nav button[aria-pressed]");
    await total(world.sentences.length);
    const feature = (await api("/features?layer=1&sort=max")).items.find((one) => one.sentences > 1 && one.sentences < world.sentences.length);
    await page.fill('nav input[aria-label^="Has feature"]', `1:${feature.id}`);
    await page.keyboard.press("Enter");
    await total(feature.sentences);
    assert.equal(query(page).get("has"), `1:${feature.id}`);
  });
});

test("a long list is scrolled to its end, and its end is there", async () => {
  await visit(at("/s/0"), {}, async (page) => {
    await page.waitForSelector('nav [role="option"]');
    await page.$eval("nav [role=listbox]", (box) => (box.scrollTop = box.scrollHeight));
    await page.waitForFunction((last) => document.querySelector(`nav [data-index="${last}"]`)?.textContent.includes(`Sentence number ${last}`), world.sentences.length - 1);
    assert.ok((await page.$$('nav [role="option"]')).length < 60, "only what is in sight is in the document");
  });
});

test("everything is reached by keyboard", async () => {
  await visit(at("/s/0?L=1&t=0"), {}, async (page) => {
    await ready(page);
    await page.keyboard.press("ArrowRight");
    await settled(page, 'new URL(location).searchParams.get("t")', "1");
    await page.keyboard.press("l");
    await page.keyboard.press("h");
    assert.equal(await locked(page), 1);
    await page.keyboard.press("]");
    await settled(page, 'new URL(location).searchParams.get("L")', "2");
    await page.keyboard.press("[");
    await page.keyboard.press("j");
    await settled(page, "location.pathname.split('/').at(-1)", "1");
    await page.keyboard.press("k");
    await settled(page, "location.pathname.split('/').at(-1)", "0");
    await ready(page);

    // Next token in which the feature on show is active.
    await page.keyboard.press("f");
    await page.waitForURL(/\/f\/1\/\d+/);
    const id = Number(/\/f\/1\/(\d+)/.exec(page.url())[1]);
    const rows = (await api("/sentences/0/activations?layers=1")).layers[0];
    const fires = rows.ptr.slice(1).map((end, row) => rows.ids.slice(rows.ptr[row], end).includes(id));
    const from = await locked(page);
    const next = fires.findIndex((on, row) => on && row > from);
    await page.keyboard.press("n");
    if (next >= 0) await settled(page, `Number(document.querySelector('.strip [aria-pressed="true"]').dataset.row)`, next);

    await page.keyboard.press("x");
    await settled(page, 'new URL(location).searchParams.get("pin")', `1:${id}`);
    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
    await page.waitForURL(/\/s\/0/);
    await page.keyboard.press("1");
    await page.waitForURL(new RegExp(`/f/1/${id}`));

    await page.keyboard.press("?");
    await page.waitForSelector("dialog[open] kbd");
    await shot(page, "keys");
    await page.keyboard.press("Escape");
    await page.waitForSelector("dialog", { state: "detached" });

    await page.keyboard.press("Control+k");
    await page.waitForSelector("dialog[open] input");
    await page.keyboard.type("3");
    await page.keyboard.press("Enter");
    await shows(page, "dog");

    await page.keyboard.press("/");
    assert.equal(await page.evaluate(() => document.activeElement.id), "search");
    await page.keyboard.type("j");
    assert.equal(await page.inputValue("#search"), "j", "letters typed into a box are not commands");
  });
});

test("single-letter keys can be turned off", async () => {
  await visit(at("/s/0?L=1&t=0"), {}, async (page) => {
    await ready(page);
    await page.click('button[aria-label="Keys"]');
    await page.click("dialog input[type=checkbox]");
    await page.keyboard.press("Escape");
    await page.waitForSelector("dialog", { state: "detached" });
    await page.keyboard.press("j");
    await page.keyboard.press("ArrowRight");
    await settled(page, 'new URL(location).searchParams.get("t")', "1");
    assert.match(page.url(), /\/s\/0/);
  });
});

test("hovering a bar lights its feature up everywhere and dims the rest", async () => {
  await visit(at("/s/0?L=1&t=3"), {}, async (page) => {
    await ready(page);
    const rows = (await api("/sentences/0/activations?layers=1")).layers[0];
    const id = rows.ids[rows.ptr[3]];
    const fires = rows.ptr.slice(1).filter((end, row) => rows.ids.slice(rows.ptr[row], end).includes(id)).length;
    await page.hover(`[data-feature="${id}"]`);
    await settled(page, 'document.querySelectorAll(".cell.fires").length', fires);
    assert.equal((await page.$$(".strip .group.lights")).length, fires);
    assert.equal((await page.$$(".bar.dim")).length, (await page.$$(".bar")).length - 1);
    await shot(page, "hover");
    await page.mouse.move(2, 2);
    await settled(page, 'document.querySelectorAll(".cell.fires, .bar.dim").length', 0);
    // By keyboard the same.
    await page.focus(`[data-feature="${id}"]`);
    await settled(page, 'document.querySelectorAll(".cell.fires").length', fires);
  });
});

test("hovering a token previews it, a click locks it", async () => {
  await visit(at("/s/0?L=1&t=0"), {}, async (page) => {
    await ready(page);
    const rows = (await api("/sentences/0/activations?layers=1")).layers[0];
    await page.hover('.strip [data-row="2"]');
    await settled(page, 'document.querySelector(".bar").dataset.feature', String(rows.ids[rows.ptr[2]]));
    assert.equal(query(page).get("t"), "0");
    await page.click('.strip [data-row="2"]');
    await settled(page, 'new URL(location).searchParams.get("t")', "2");
  });
});

test("a click on the heatmap chooses layer and token", async () => {
  await visit(at("/s/0?L=1&t=0"), {}, async (page) => {
    await ready(page);
    const canvas = page.locator("[role=application] canvas");
    await canvas.scrollIntoViewIfNeeded();
    const box = await canvas.boundingBox();
    const columns = (await api("/sentences/0/heatmap")).positions.length;
    // The last layer lies on top.
    await canvas.click({ position: { x: (box.width * 4.5) / columns, y: box.height / 6 } });
    await settled(page, '["L", "t"].map((key) => new URL(location).searchParams.get(key))', ["2", "4"]);
    await page.focus("[role=application]");
    await page.keyboard.press("ArrowDown");
    await settled(page, 'new URL(location).searchParams.get("L")', "1");
    await page.keyboard.press("ArrowLeft");
    await settled(page, 'new URL(location).searchParams.get("t")', "3");
  });
});

test("the feature page says what the run says", async () => {
  const list = await api("/features?layer=1&sort=score");
  const feature = list.items[3];
  await visit(at(`/f/1/${feature.id}?from=0.2`), {}, async (page) => {
    await page.waitForSelector("article ol li");
    const stats = await page.$$eval(".stats dd", (all) => all.map((one) => one.textContent));
    assert.equal(stats[2], String(feature.sentences));
    assert.equal(stats[5], String(feature.slot + 1));
    const contexts = await api(`/features/1/${feature.id}/activations?limit=12&context=10`);
    assert.equal((await page.$$("article ol li")).length, contexts.items.length);
    await page.waitForSelector("article svg rect");
    await page.waitForSelector(".types li");
    await page.waitForTimeout(400);
    await shot(page, "feature");
    const first = contexts.items[0];
    await page.click("article ol li button");
    await settled(page, 'new URL(location).searchParams.get("from")?.split(".")[0]', String(first.sentence));
    assert.match(page.url(), new RegExp(`/f/1/${feature.id}`));
    await page.click("text=Sentences that contain it");
    await settled(page, 'document.querySelector("nav [role=option]")?.getAttribute("aria-setsize")', String(feature.sentences));
  });
});

test("the feature page shows what was found in a corpus, where something was", async () => {
  const corpusOf = async (run, id) => (await fetch(`${world.address}/api/v1/runs/${run}/features/1/${id}/corpus`)).json();
  const feature = (await api("/features?layer=1&sort=score")).items[3];
  const { corpus } = await corpusOf(world.runs.rounded, feature.id);
  assert.ok(corpus.contexts.length > 1 && corpus.promoted.length > 1);
  await visit(`/r/${world.runs.rounded}/f/1/${feature.id}`, { colorScheme: "dark" }, async (page) => {
    const section = page.locator("article section", { hasText: "In a large corpus" });
    await section.locator("li").first().waitFor();
    assert.equal(await section.locator("li").count(), corpus.contexts.length);
    const shown = await section.locator("li .text").first().textContent();
    const said = corpus.contexts[0].tokens.map((token) => token.text).join("");
    assert.equal(shown.replace(/[\s…]/g, ""), said.replace(/\s/g, ""));
    await section.scrollIntoViewIfNeeded();
    await shot(page, "corpus");
  });
  assert.equal((await corpusOf(world.runs.exact, feature.id)).corpus, null);
  await visit(at(`/f/1/${feature.id}`), {}, async (page) => {
    await page.waitForSelector("article ol li");
    assert.equal(await page.locator("text=In a large corpus").count(), 0);
  });
});

test("the feature table is filtered, and its errors help", async () => {
  await visit(at("/features?L=1"), {}, async (page) => {
    await page.waitForSelector("aside [role=option]");
    const wanted = await api(`/features?layer=1&filter=${encodeURIComponent("sentences<5 max>0.1")}`);
    await page.fill("aside header input", "sentences<5 max>0.1");
    await settled(page, 'Number(document.querySelector("aside [role=option]")?.getAttribute("aria-setsize") ?? 0)', wanted.total);
    await shot(page, "features");
    await page.fill("aside header input", "colour=blue");
    await page.waitForSelector("aside [role=alert]");
  });
});

test("two sentences, two layers and two runs are compared", async () => {
  await visit(at("/s/0?L=1"), {}, async (page) => {
    await ready(page);
    await page.keyboard.press("c");
    await page.keyboard.press("c");
    await page.click('nav [data-index="3"]');
    await settled(page, 'new URL(location).searchParams.get("cmp")', "s:3");
    const wanted = await api("/compare?a=s:0,L:1&b=s:3,L:1");
    await page.waitForSelector(".share");
    const counts = await page.$$eval(".counts b", (all) => all.map((one) => Number(one.textContent)));
    assert.deepEqual(counts, [wanted.only_a, wanted.both, wanted.only_b]);
    assert.equal((await page.$$(".pairs li")).length, wanted.pairs.length);
    await shot(page, "compare");
    await page.selectOption(".other-run", world.runs.rounded);
    await page.waitForFunction((run) => new URL(location).searchParams.get("cmp").includes(`r:${run}`), world.runs.rounded);
    await page.waitForSelector(".pairs li");
  });
  await visit(at("/s/0?L=1&cmp=L:2"), {}, async (page) => {
    await page.waitForSelector("text=two dictionaries");
  });
});

test("a deep link shows what it was copied from, and Back goes back", async () => {
  const feature = (await api("/features?layer=2&sort=score")).items[0].id;
  const link = at(`/f/2/${feature}?from=3.4&L=2&k=30&sort=rare&col=id&scope=sentence&metric=max&pin=2:${feature}`);
  await visit(link, {}, async (page) => {
    await page.waitForSelector('.strip [aria-pressed="true"]');
    await page.waitForSelector("article h2");
    const { pathname, search } = new URL(page.url());
    assert.equal(decodeURIComponent(pathname + search), decodeURIComponent(link));
    assert.equal(await locked(page), 4);
    await shows(page, "dog");
    const before = page.url();
    await page.click('nav [data-index="0"]');
    await shows(page, "mat");
    await page.goBack();
    await shows(page, "dog");
    assert.equal(page.url(), before);
  });
});

test("sentences are text, whatever is written in them", async () => {
  await visit(at("/s/1?L=1"), {}, async (page) => {
    await ready(page);
    await page.waitForTimeout(300);
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.equal((await page.$$("main img, main script")).length, 0);
    assert.ok((await page.textContent("nav")).includes(HOSTILE));
    await page.goto(world.address + at(`/live?text=${encodeURIComponent(HOSTILE)}&q=${encodeURIComponent("<img src=x onerror=window.hacked=1>")}`));
    await page.waitForSelector(".strip [data-row]");
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.equal((await page.$$("main img, main script")).length, 0);
  });
});

test("a typed sentence is read by the model and shown like the others", async () => {
  await visit(at("/s/0?L=1"), {}, async (page) => {
    await ready(page);
    await page.fill("#typed", "The cat sat on the typed mat.");
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/live\?text=/);
    await shows(page, "typed");
    assert.ok((await page.$$(".bar")).length > 0);
    await page.waitForSelector("[role=application] canvas");
    await shot(page, "typed");
    const link = page.url();
    await page.goto(link);
    await shows(page, "typed");
    await page.click("text=Back to the run");
    await page.waitForURL(/\/s\/0/);
  });
});

test("light and dark follow the system, a choice is kept", async () => {
  const ground = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await visit(at("/s/0?L=1"), { colorScheme: "dark" }, async (page) => {
    await ready(page);
    await page.waitForTimeout(300);
    assert.equal(await ground(page), "rgb(10, 10, 10)");
    await shot(page, "dark");
    await page.keyboard.press("t");
    await settled(page, "getComputedStyle(document.body).backgroundColor", "rgb(243, 242, 239)");
    await page.reload();
    await ready(page);
    assert.equal(await ground(page), "rgb(243, 242, 239)");
  });
});

test("the page speaks Japanese", async () => {
  await visit(at("/s/2?L=1"), {}, async (page) => {
    await ready(page);
    await page.click("text=日本語");
    await settled(page, "document.documentElement.lang", "ja");
    assert.equal((await page.textContent("#tab-feature")).trim(), "特徴");
    // Tokens that split a character are shown as the character.
    const words = await page.$$eval(".strip .text:not(.bos)", (all) => all.map((one) => one.textContent));
    assert.equal(words.join(""), world.sentences[2]);
    await page.waitForTimeout(300);
    await shot(page, "japanese");
    await page.reload();
    await ready(page);
    assert.equal((await page.textContent("#tab-feature")).trim(), "特徴");
  });
  await visit("/", { locale: "ja-JP" }, async (page) => {
    await ready(page);
    assert.equal((await page.textContent("#tab-features")).trim(), "特徴一覧");
  });
});

for (const colorScheme of ["light", "dark"])
  test(`axe has nothing serious to say, ${colorScheme}`, async () => {
    const feature = (await api("/features?layer=1&sort=score")).items[0].id;
    for (const rest of ["/s/0?L=1", `/f/1/${feature}?from=0.2&pin=1:${feature}`, "/features?L=1", "/s/0?L=1&cmp=s:3", "/health"])
      await visit(at(rest), { colorScheme, reducedMotion: "reduce" }, async (page) => {
        await ready(page);
        await page.waitForTimeout(500);
        assert.deepEqual(await violations(page), [], rest);
        if (rest !== "/health") return;
        await shot(page, `run-${colorScheme}`);
        await page.keyboard.press("?");
        await page.waitForSelector("dialog[open]");
        assert.deepEqual(await violations(page), [], "keys");
        await page.keyboard.press("Escape");
        await page.waitForSelector("dialog", { state: "detached" });
        await page.keyboard.press("Control+k");
        await page.waitForSelector("dialog[open] input");
        assert.deepEqual(await violations(page), [], "palette");
      });
  });

test("high contrast, forced colours and a narrow window work", async () => {
  await visit(at("/s/0?L=1"), { forcedColors: "active" }, async (page) => {
    await ready(page);
    await shot(page, "forced-colors");
    const inks = await page.$$eval(".bar .ink", (all) => all.map((one) => getComputedStyle(one).backgroundColor));
    assert.ok(new Set(inks).size > 1, "features keep their colours");
  });
  await visit(at("/s/0?L=1"), { viewport: { width: 480, height: 900 } }, async (page) => {
    await ready(page);
    const [wide, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= seen, `${wide} px wide in a window of ${seen}`);
    await page.screenshot({ path: join(screenshots, "narrow.png"), fullPage: true });
    // The first key is pressed in the page's first moments: nothing may take it for the second of a pair.
    await page.evaluate(() => {
      const early = new KeyboardEvent("keydown", { key: "t" });
      Object.defineProperty(early, "timeStamp", { value: 5 });
      dispatchEvent(early);
    });
    await page.keyboard.press("t");
    await page.keyboard.press("t");
    await settled(page, "document.documentElement.dataset.theme", "contrast");
    assert.deepEqual(await violations(page), []);
  });
});

test("the HTML report works from the disk, with hostile text in it", async () => {
  const address = world.report(world.runs.exact, "--sentences", "0-3", "--layers", "0,1");
  for (const colorScheme of ["light", "dark"])
    await open(address, { colorScheme }, (url) => url.href === address, async (page) => {
      await page.waitForSelector("section.sentence");
      assert.equal(await page.$$eval("section.sentence", (all) => all.length), 4);
      assert.ok((await page.textContent("body")).includes(HOSTILE));
      assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
      assert.deepEqual(await page.$$eval('a[href^="#"]', (all) => all.filter((a) => !document.querySelector(a.hash)).map(String)), []);
      assert.deepEqual(await violations(page), []);
      const mark = page.locator('[data-of="0"] [data-f]').first();
      await mark.hover();
      assert.ok((await page.$$eval(".hit", (all) => all.length)) > 0, "a feature lights up");
      await page.keyboard.press("]");
      await settled(page, `document.querySelector('[data-layer="1"]').getAttribute("aria-pressed")`, "true");
      await shot(page, `report-${colorScheme}`);
    });
});

test("what is not there is said, with the way out", async () => {
  await visit("/", {}, async (page) => {
    // All runs were deleted while the server went on.
    await page.route("**/api/v1/runs", (route) => route.fulfill({ json: { folder: "outputs", runs: [] } }));
    await page.reload();
    await page.waitForSelector("text=llamascope run config.yaml");
  });
  await visit(at("/s/99999"), {}, async (page) => {
    await page.waitForSelector(".middle [role=alert]");
  });
  await visit("/r/no_such_run/s/0", {}, async (page) => {
    await page.waitForSelector(".middle [role=alert]");
  });
});
