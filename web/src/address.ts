// The state of the view, as an address: the path names the resource, the query how it is shown. Everything that
// another reader must see to see the same picture is here; what is a matter of taste (theme, language) is not.

export interface FeatureRef {
  layer: number;
  id: number;
}

export const PANELS = ["feature", "features", "compare", "health"] as const;
export const SORTS = ["act", "rare", "common", "id"] as const;
export const HUES = ["slot", "id", "pins"] as const;
export const PALETTES = ["oklch", "hsv"] as const;
export const RARITIES = ["log", "linear", "percentile"] as const;
export const SCOPES = ["run", "sentence"] as const;
export const METRICS = ["nnz", "sum", "max", "novelty", "feature"] as const;
export const STRIPS = ["top", "nnz", "pins"] as const;
export const ORDERS = ["score", "rare", "max", "density", "id"] as const;
export const SENTENCE_ORDERS = ["id", "length", "act"] as const;

export interface Address {
  run: string | null;
  /** Sentence on show; null: the page chooses. */
  sentence: number | null;
  /** A typed sentence, instead of one of the run. */
  text: string | null;
  layer: number | null;
  /** Row of the locked token within the sentence. */
  token: number | null;
  /** The feature that the inspector shows; null: the locked token's most telling one. */
  feature: FeatureRef | null;
  panel: (typeof PANELS)[number];
  /** What to compare with; null: the same as on show. */
  other: number | null;
  otherLayer: number | null;
  otherRun: string | null;
  /** How many features of a token are drawn. */
  top: number;
  /** Values below this are not drawn. */
  min: number;
  /** Features active in more than this share of all tokens are not drawn; 1 draws all. */
  dense: number;
  sort: (typeof SORTS)[number];
  hue: (typeof HUES)[number];
  palette: (typeof PALETTES)[number];
  rarity: (typeof RARITIES)[number];
  scope: (typeof SCOPES)[number];
  metric: (typeof METRICS)[number];
  strip: (typeof STRIPS)[number];
  pins: FeatureRef[];
  /** Search in the sentences. */
  q: string;
  regex: boolean;
  /** Only sentences in which this feature is active. */
  has: FeatureRef | null;
  list: (typeof SENTENCE_ORDERS)[number];
  /** Filter and order of the feature table. */
  filter: string;
  order: (typeof ORDERS)[number];
}

export const MOST_PINS = 8;
const MOST_TOP = 200;
const MOST_TEXT = 2000;

export const start: Address = {
  run: null,
  sentence: null,
  text: null,
  layer: null,
  token: null,
  feature: null,
  panel: "feature",
  other: null,
  otherLayer: null,
  otherRun: null,
  top: 12,
  min: 0,
  dense: 1,
  sort: "act",
  hue: "slot",
  palette: "oklch",
  rarity: "log",
  scope: "run",
  metric: "nnz",
  strip: "top",
  pins: [],
  q: "",
  regex: false,
  has: null,
  list: "id",
  filter: "",
  order: "score",
};

const natural = (text: string | null | undefined): number | null =>
  text != null && /^\d{1,9}$/.test(text) ? Number(text) : null;

const feature = (text: string | null | undefined): FeatureRef | null => {
  const match = /^(\d{1,6}):(\d{1,9})$/.exec(text ?? "");
  return match ? { layer: Number(match[1]), id: Number(match[2]) } : null;
};

const bounded = (text: string | null, low: number, high: number, otherwise: number): number => {
  const number = text === null || text.trim() === "" ? NaN : Number(text);
  return Number.isFinite(number) ? Math.min(high, Math.max(low, number)) : otherwise;
};

const oneOf = <T extends string>(text: string | null, all: readonly T[], otherwise: T): T =>
  all.find((one) => one === text) ?? otherwise;

const decoded = (part: string): string | null => {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
};

/** Reads an address; what it does not understand is left at its default, never an error. */
export function parse(path: string, query: string): Address {
  const address: Address = { ...start, pins: [] };
  const parts = path.split("/").filter((part) => part !== "");
  const ask = new URLSearchParams(query);
  if (parts[0] === "r" && parts[1] !== undefined) address.run = decoded(parts[1]);
  const rest = address.run === null ? [] : parts.slice(2);
  switch (rest[0]) {
    case "s":
      address.sentence = natural(rest[1]);
      break;
    case "live":
      address.text = (ask.get("text") ?? "").slice(0, MOST_TEXT);
      break;
    case "f": {
      address.feature = feature(`${rest[1]}:${rest[2]}`);
      break;
    }
    case "features":
    case "health":
      address.panel = rest[0];
      break;
  }
  const from = /^(\d{1,9})?(?:\.(\d{1,9}))?$/.exec(ask.get("from") ?? "");
  if (rest[0] !== "s" && rest[0] !== "live" && from) address.sentence = natural(from[1]);
  address.token = natural(ask.get("t")) ?? natural(from?.[2]);
  if (rest[0] === "s" || rest[0] === "live" || rest[0] === undefined) {
    const other = /^(?:s:(\d{1,9}))?,?(?:L:(\d{1,9}))?,?(?:r:(.*))?$/s.exec(ask.get("cmp") ?? "");
    if (ask.has("cmp")) {
      address.panel = "compare";
      address.other = natural(other?.[1]);
      address.otherLayer = natural(other?.[2]);
      address.otherRun = other?.[3] ?? null;
    }
  }
  address.text ??= ask.has("live") ? (ask.get("live") ?? "").slice(0, MOST_TEXT) : null;
  if (address.text !== null) address.sentence = null;
  address.layer = natural(ask.get("L"));
  address.top = Math.round(bounded(ask.get("k"), 1, MOST_TOP, start.top));
  address.min = bounded(ask.get("min"), 0, 1e9, start.min);
  address.dense = bounded(ask.get("dense"), 0, 1, start.dense);
  address.sort = oneOf(ask.get("sort"), SORTS, start.sort);
  address.hue = oneOf(ask.get("col"), HUES, start.hue);
  address.palette = oneOf(ask.get("palette"), PALETTES, start.palette);
  address.rarity = oneOf(ask.get("rarity"), RARITIES, start.rarity);
  address.scope = oneOf(ask.get("scope"), SCOPES, start.scope);
  address.metric = oneOf(ask.get("metric"), METRICS, start.metric);
  address.strip = oneOf(ask.get("strip"), STRIPS, start.strip);
  for (const one of (ask.get("pin") ?? "").split(",")) {
    const pin = feature(one);
    const known = address.pins.some((other) => same(other, pin));
    if (pin && !known && address.pins.length < MOST_PINS) address.pins.push(pin);
  }
  address.q = (ask.get("q") ?? "").slice(0, MOST_TEXT);
  address.regex = ask.get("re") === "1";
  address.has = feature(ask.get("has"));
  address.list = oneOf(ask.get("list"), SENTENCE_ORDERS, start.list);
  address.filter = (ask.get("filter") ?? "").slice(0, MOST_TEXT);
  address.order = oneOf(ask.get("order"), ORDERS, start.order);
  return address;
}

/** Writes an address; only what differs from the default is in the query. */
export function print(address: Address): string {
  const ask = new URLSearchParams();
  const put = (key: string, value: string | number, plain: string | number) => {
    if (value !== plain) ask.set(key, String(value));
  };
  let path = "/";
  if (address.run !== null) {
    path = `/r/${encodeURIComponent(address.run)}`;
    const showsFeature = address.panel === "feature" && address.feature !== null;
    const own = showsFeature || ["features", "health"].includes(address.panel);
    if (showsFeature) path += `/f/${address.feature?.layer}/${address.feature?.id}`;
    else if (address.panel === "features") path += "/features";
    else if (address.panel === "health") path += "/health";
    else if (address.text !== null) path += "/live";
    else if (address.sentence !== null) path += `/s/${address.sentence}`;

    if (own) {
      if (address.text !== null) {
        ask.set("live", address.text);
        if (address.token !== null) ask.set("t", String(address.token));
      } else if (address.sentence !== null || address.token !== null) {
        ask.set("from", `${address.sentence ?? ""}${address.token === null ? "" : `.${address.token}`}`);
      }
    } else {
      if (address.text !== null) ask.set("text", address.text);
      if (address.token !== null) ask.set("t", String(address.token));
      if (address.panel === "compare") {
        const other = [];
        if (address.other !== null) other.push(`s:${address.other}`);
        if (address.otherLayer !== null) other.push(`L:${address.otherLayer}`);
        if (address.otherRun !== null) other.push(`r:${address.otherRun}`);
        ask.set("cmp", other.join(","));
      }
    }
  }
  if (address.layer !== null) ask.set("L", String(address.layer));
  put("k", address.top, start.top);
  put("min", address.min, start.min);
  put("dense", address.dense, start.dense);
  put("sort", address.sort, start.sort);
  put("col", address.hue, start.hue);
  put("palette", address.palette, start.palette);
  put("rarity", address.rarity, start.rarity);
  put("scope", address.scope, start.scope);
  put("metric", address.metric, start.metric);
  put("strip", address.strip, start.strip);
  if (address.pins.length > 0) ask.set("pin", address.pins.map((pin) => `${pin.layer}:${pin.id}`).join(","));
  put("q", address.q, "");
  if (address.regex) ask.set("re", "1");
  if (address.has !== null) ask.set("has", `${address.has.layer}:${address.has.id}`);
  put("list", address.list, start.list);
  put("filter", address.filter, "");
  put("order", address.order, start.order);
  // Colons and commas are legal in a query, and easier to read and to type.
  const query = ask.toString().replaceAll("%3A", ":").replaceAll("%2C", ",");
  return query === "" ? path : `${path}?${query}`;
}

export const same = (a: FeatureRef | null | undefined, b: FeatureRef | null | undefined): boolean =>
  a != null && b != null && a.layer === b.layer && a.id === b.id;

/** Whether going from one to the other is a step that Back should undo. */
export const isStep = (from: Address, to: Address): boolean =>
  from.run !== to.run ||
  from.sentence !== to.sentence ||
  from.text !== to.text ||
  from.panel !== to.panel ||
  from.other !== to.other ||
  from.otherLayer !== to.otherLayer ||
  from.otherRun !== to.otherRun ||
  (to.feature !== null && !same(from.feature, to.feature));
