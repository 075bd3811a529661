import fc from "fast-check";
import { expect, test } from "vitest";
import * as address from "./address.ts";

const small = fc.integer({ min: 0, max: 999_999_999 });
const reference = fc.record({ layer: fc.integer({ min: 0, max: 999_999 }), id: small });
const orNull = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: null });

// Texts a person can type: lone surrogates cannot stand in an address.
const words = fc.string({ unit: "grapheme", maxLength: 40 });

const addresses: fc.Arbitrary<address.Address> = fc
  .record({
    run: orNull(fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 })),
    sentence: orNull(small),
    text: orNull(words),
    layer: orNull(fc.integer({ min: 0, max: 999_999_999 })),
    token: orNull(small),
    feature: orNull(reference),
    panel: fc.constantFrom(...address.PANELS),
    other: orNull(small),
    otherLayer: orNull(small),
    otherRun: orNull(fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 })),
    top: fc.integer({ min: 1, max: 200 }),
    min: fc.double({ min: 0, max: 1e9, noNaN: true }).map(Math.abs),
    dense: fc.double({ min: 0, max: 1, noNaN: true }).map(Math.abs),
    sort: fc.constantFrom(...address.SORTS),
    hue: fc.constantFrom(...address.HUES),
    palette: fc.constantFrom(...address.PALETTES),
    rarity: fc.constantFrom(...address.RARITIES),
    scope: fc.constantFrom(...address.SCOPES),
    metric: fc.constantFrom(...address.METRICS),
    strip: fc.constantFrom(...address.STRIPS),
    pins: fc.uniqueArray(reference, { maxLength: 8, selector: (one) => `${one.layer}:${one.id}` }),
    q: words,
    regex: fc.boolean(),
    has: orNull(reference),
    list: fc.constantFrom(...address.SENTENCE_ORDERS),
    filter: words,
    order: fc.constantFrom(...address.ORDERS),
  })
  // Combinations that have no meaning have no address either.
  .map((one) => {
    if (one.text !== null) one.sentence = null;
    if (one.panel !== "feature") one.feature = null;
    if (one.panel !== "compare") Object.assign(one, { other: null, otherLayer: null, otherRun: null });
    if (one.run === null)
      Object.assign(one, { sentence: null, text: null, token: null, feature: null, panel: "feature", other: null, otherLayer: null, otherRun: null });
    return one;
  });

const read = (text: string) => {
  const url = new URL(text, "http://localhost");
  return address.parse(url.pathname, url.search);
};

test("what is printed reads back as it was", () => {
  fc.assert(
    fc.property(addresses, (one) => {
      // A browser takes `.` and `..` for steps in the path; no run has such a name.
      fc.pre(one.run === null || !/^\.{1,2}$/.test(one.run));
      expect(read(address.print(one))).toEqual(one);
    }),
    { numRuns: 2000 },
  );
});

test("any path and query reads as something that can be printed and read again", () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (path, query) => {
      const once = address.parse(`/${path}`, query);
      fc.pre(once.run === null || !/^\.{1,2}$/.test(once.run));
      expect(read(address.print(once))).toEqual(once);
    }),
  );
});

test("addresses are readable", () => {
  const one = { ...address.start, run: "run_20261126_031500", sentence: 3, token: 5, layer: 10, pins: [{ layer: 10, id: 7 }] };
  expect(address.print(one)).toBe("/r/run_20261126_031500/s/3?t=5&L=10&pin=10:7");
  expect(address.print({ ...one, feature: { layer: 10, id: 104 } })).toBe(
    "/r/run_20261126_031500/f/10/104?from=3.5&L=10&pin=10:7",
  );
  expect(address.print({ ...one, panel: "compare", other: 4 })).toBe(
    "/r/run_20261126_031500/s/3?t=5&cmp=s:4&L=10&pin=10:7",
  );
});

test("nonsense leaves the defaults", () => {
  expect(read("/r/x/s/abc?k=-4&sort=drop&L=1e9&min=Infinity&pin=a,1:2,1:2,&t=")).toEqual({
    ...address.start,
    run: "x",
    top: 1,
    pins: [{ layer: 1, id: 2 }],
  });
});
