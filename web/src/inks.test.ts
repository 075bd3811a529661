import { expect, test } from "vitest";
import * as colour from "./colour.ts";
import { Inks } from "./inks.ts";

const settings = { hue: "slot", palette: "oklch", rarity: "log", pins: [] } as const;

test("a feature has one colour wherever its slot and score are the same", () => {
  const inks = new Inks("light", { ...settings, pins: [] }, []);
  const one = inks.of(10, 7, 3, 400, 1000);
  expect(one).toBe(colour.hex(colour.feature("light", "oklch", colour.hueOfSlot(3), colour.logRarity(0.4, 1000))));
  expect(inks.of(10, 7, 3, 400, 1000)).toBe(one);
  expect(inks.of(10, 7, 3, 40_000, 1000)).not.toBe(one);
});

test("with pins only, pins have the colours of their places and all else is grey", () => {
  const inks = new Inks("dark", { ...settings, hue: "pins", pins: [{ layer: 1, id: 5 }, { layer: 2, id: 5 }] }, []);
  expect(inks.of(2, 5, 0, 1, 10)).toBe(colour.hex(colour.pin("dark", 1)));
  const [, r, g, b] = /#(..)(..)(..)/.exec(inks.of(3, 5, 0, 1, 10)) ?? [];
  expect([r, r]).toEqual([g, b]);
});

test("by id, a feature that the run has never seen has its hue as well", () => {
  const inks = new Inks("light", { ...settings, hue: "id", pins: [] }, []);
  expect(inks.of(4, 9, null, 0, 100)).toBe(colour.hex(colour.feature("light", "oklch", colour.hueOfId(4, 9), 1)));
});
