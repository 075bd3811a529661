import { expect, test } from "vitest";
import type { Activations } from "./api/client.ts";
import { fullColour, heatOf } from "./heat.ts";

const features = { ids: [], slots: [], points: [], counts: [], labels: [] };
const all: Activations = {
  sentence: null,
  scope: "run",
  positions: [1, 2, 3],
  missing: [],
  layers: [
    { layer: 9, d_sae: 10, tokens: 3, ptr: [0, 1, 1, 2], ids: [4, 5], vals: [1, 8], nnz: [1, 0, 1], features },
    { layer: 2, d_sae: 10, tokens: 3, ptr: [0, 2, 4, 4], ids: [4, 5, 5, 6], vals: [3, 1, 5, 2], nnz: [2, 2, 0], features },
  ],
};

test("a typed sentence has a heatmap, by ascending layer", () => {
  expect(heatOf(all, "nnz", null)).toEqual({
    metric: "nnz", layers: [2, 9], positions: [1, 2, 3], values: [[2, 2, 0], [1, 0, 1]], layer_max: [2, 1],
  });
  expect(heatOf(all, "sum", null).values).toEqual([[4, 7, 0], [1, 0, 8]]);
  expect(heatOf(all, "max", null).values).toEqual([[3, 5, 0], [1, 0, 8]]);
  expect(heatOf(all, "novelty", null).values).toEqual([[1, 0.5, 0], [1, 0, 1]]);
  expect(heatOf(all, "feature", { layer: 2, id: 5 }).values).toEqual([[1, 5, 0]]);
});

test("outliers of values do not flatten the others, the largest count has the full colour", () => {
  expect(fullColour("max", [900, 2, null, 5, 2, 0])).toBe(5);
  expect(fullColour("sum", [1, 2, 3])).toBe(3);
  expect(fullColour("nnz", [9, 1, 1, 1])).toBe(9);
  expect(fullColour("max", [null, 0])).toBe(1);
});
