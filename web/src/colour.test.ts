import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import * as colour from "./colour.ts";

const golden = JSON.parse(readFileSync(new URL("../../fixtures/golden/colours.json", import.meta.url), "utf8"));

const rgb = (text: string): colour.Rgb => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)) as unknown as colour.Rgb;

const hueOf = (of: { slot?: number; layer?: number; id?: number }): colour.Hue =>
  of.slot !== undefined ? colour.hueOfSlot(of.slot) : colour.hueOfId(of.layer ?? 0, of.id ?? 0);

test("hues are the golden ones", () => {
  expect(golden.hues_of_slots.length).toBeGreaterThan(5);
  for (const one of golden.hues_of_slots) expect(colour.hueOfSlot(one.slot)).toEqual(one.hue);
  for (const one of golden.hues_of_ids) {
    expect(colour.hueOfId(one.layer, one.id)).toEqual(one.hue);
    expect(colour.splitmix64((BigInt(one.layer) << 32n) | BigInt(one.id)).toString()).toBe(one.splitmix64);
  }
});

test("colours are the golden ones, to the byte", () => {
  expect(golden.colours.length).toBeGreaterThan(100);
  for (const one of golden.colours) {
    const found = colour.feature(one.theme, one.palette, hueOf(one.of), one.rarity);
    expect(colour.hex(found), JSON.stringify(one)).toBe(one.hex);
    expect(colour.hex(colour.textOn(found))).toBe(one.text);
  }
  for (const theme of golden.greys)
    for (const one of theme.greys) expect(colour.hex(colour.grey(theme.theme, one.rarity))).toBe(one.hex);
  for (const theme of golden.pins)
    theme.pins.forEach((one: string, place: number) => expect(colour.hex(colour.pin(theme.theme, place))).toBe(one));
  for (const one of golden.ramps) expect(colour.hex(colour.ramp(one.theme, one.turns, one.amount))).toBe(one.hex);
  for (const one of golden.contrasts) expect(colour.contrast(rgb(one.a), rgb(one.b))).toBe(one.ratio);
});

test("rarities are the golden ones, to the bit", () => {
  for (const one of golden.log_rarities) expect(colour.logRarity(one.points / one.tokens, one.tokens)).toBe(one.rarity);
  const { n_tokens: tokens, features_by_slot: features } = golden.scores;
  const all = features.map((one: { points: number }) => one.points);
  for (const scale of ["log", "linear", "percentile"] as const) {
    const of = colour.rarities(scale, tokens, all);
    for (const one of features) expect(of(one.points), `${scale} ${JSON.stringify(one)}`).toBe(one[scale]);
  }
});
