import { expect, test } from "vitest";
import * as format from "./format.ts";

test("numbers are short and none is lost", () => {
  expect([0, 0.000012, 0.01234, 0.5, 1.234, 12.34, 123.4, 12345, 12345678].map(format.value)).toEqual([
    "0", "1.20e-5", "0.012", "0.50", "1.23", "12.3", "123", "12345", "1.23e+7",
  ]);
  expect([0, 0.00001, 0.001, 0.0123, 0.5, 1].map(format.percent)).toEqual(["0 %", "<0.01 %", "0.10 %", "1.2 %", "50 %", "100 %"]);
  expect([0, 0.001, 0.25, 99.5].map(format.score)).toEqual(["0", "<0.01", "0.25", "99.5"]);
  expect([7, 1234, 12345678].map(format.count)).toEqual(["7", "1\u202f234", "12\u202f345\u202f678"]);
});

test("what cannot be seen in a token is made visible", () => {
  expect(format.bare(" Paris")).toBe("Paris");
  expect(format.bare("Paris")).toBe("Paris");
  expect(format.bare("  ")).toBe("··");
  expect(format.bare("\n\t")).toBe("↵→");
  expect(format.bare("\u3000")).toBe("□");
  expect(format.bare("<b>")).toBe("<b>");
  expect(format.hex("é")).toBe("c3 a9");
});
