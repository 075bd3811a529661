// The heatmap of a typed sentence, counted here from its rows as the server counts those of a run.
import type * as api from "./api/client.ts";
import type { Address, FeatureRef } from "./address.ts";

export function heatOf(all: api.Activations, metric: Address["metric"], feature: FeatureRef | null): api.Heatmap {
  // A feature is at home in one layer.
  const asked = metric === "feature" ? all.layers.filter((one) => one.layer === feature?.layer) : [...all.layers];
  const layers = asked.sort((a, b) => a.layer - b.layer);
  const values = layers.map((one) => all.positions.map((_, row) => cell(one, row, metric, feature)));
  return {
    metric,
    layers: layers.map((one) => one.layer),
    positions: all.positions,
    values,
    layer_max: values.map((row) => row.reduce<number>((most, value) => Math.max(most, value ?? 0), 0)),
  };
}

/** How many times the middle value may be exceeded before a cell is an outlier, as in a chart of `llamascope chart`. */
const OUTLIER = 3;

/**
 * The value that has the full colour. Values have outliers by orders of magnitude (the first position of a model without
 * BOS), which would flatten all others; of counts and shares the largest are what one looks for.
 */
export function fullColour(metric: Address["metric"], values: readonly (number | null)[]): number {
  const peaks = values.filter((value) => value !== null).filter((value) => value > 0).sort((a, b) => a - b);
  if (metric === "nnz" || metric === "novelty") return peaks.at(-1) ?? 1;
  const middle = peaks[Math.floor(peaks.length / 2)] ?? 1;
  return peaks.findLast((peak) => peak <= OUTLIER * middle) ?? 1;
}

function cell(rows: api.LayerActivations, row: number, metric: Address["metric"], feature: FeatureRef | null): number | null {
  const [first, end] = [rows.ptr[row] ?? 0, rows.ptr[row + 1] ?? 0];
  const ids = rows.ids.slice(first, end);
  const vals = rows.vals.slice(first, end);
  switch (metric) {
    case "nnz":
      return rows.nnz[row] ?? null;
    case "sum":
      return vals.reduce((sum, value) => sum + value, 0);
    case "max":
      return vals[0] ?? 0;
    case "feature":
      return vals[ids.indexOf(feature?.id ?? -1)] ?? 0;
    case "novelty": {
      const before = new Set(row === 0 ? [] : rows.ids.slice(rows.ptr[row - 1], first));
      return ids.length === 0 ? 0 : ids.filter((id) => !before.has(id)).length / ids.length;
    }
  }
}
