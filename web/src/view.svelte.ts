// What is on show. The address says what the reader asked for; `View` joins it with the server's answers and fills in
// what the reader left open: the first run, sentence, layer and a token worth looking at.
import { untrack } from "svelte";
import * as api from "./api/client.ts";
import { Resource } from "./api/resource.svelte.ts";
import { isStep, MOST_PINS, parse, print, same, type Address, type FeatureRef } from "./address.ts";
import { Inks } from "./inks.ts";
import { look } from "./theme.svelte.ts";

/** A feature of the layer on show, as the answers describe it. */
export interface Known {
  slot: number;
  points: number;
  count: number;
  label: string | null;
}

/** A bar: an active feature of a token. */
export interface Bar extends Known {
  id: number;
  value: number;
  /** From 1. */
  rank: number;
}

/** A sentence with the rows of one layer. */
export interface Scene {
  sentence: api.Sentence;
  rows: api.LayerActivations | null;
  /** Index into `sentence.tokens` of each row. */
  tokenOfRow: number[];
  timings: api.Encoded["timings"] | null;
}

function scene(sentence: api.Sentence, all: api.Activations, layer: number, timings: Scene["timings"]): Scene {
  const tokenOfRow: number[] = [];
  sentence.tokens.forEach((token, index) => {
    if (token.row !== null) tokenOfRow[token.row] = index;
  });
  return { sentence, rows: all.layers.find((one) => one.layer === layer) ?? null, tokenOfRow, timings };
}

const WATCH_MS = 3000;
const LOOK_AHEAD_MS = 250;

export class View {
  address = $state.raw<Address>(parse(location.pathname, location.search));
  /** The feature under the pointer or in focus: it lights up everywhere. */
  hover = $state.raw<FeatureRef | null>(null);
  /** The row under the pointer. */
  preview = $state<number | null>(null);
  dialog = $state<"keys" | "palette" | "export" | null>(null);
  /** Whether the next sentence chosen in the list is the one to compare with. */
  picking = $state(false);
  /** What a screen reader is told. */
  said = $state("");

  runs: Resource<api.RunList>;
  run: Resource<api.Run>;
  scene: Resource<Scene>;
  percentiles: Resource<number[]>;

  runId = $derived.by(() => {
    const all = this.runs.value?.runs;
    return this.address.run ?? all?.find((one) => one.status !== "unreadable" && one.n_sentences > 0)?.id ?? all?.[0]?.id ?? null;
  });
  layers = $derived.by(() => this.run.value?.layers ?? []);
  layer = $derived.by(() => {
    const wanted = this.address.layer;
    const layers = this.layers;
    if (wanted !== null && layers.some((one) => one.layer === wanted)) return wanted;
    // The middle of the stack says more than its ends.
    return layers[layers.length >> 1]?.layer ?? null;
  });
  layerInfo = $derived(this.layers.find((one) => one.layer === this.layer));
  live = $derived(this.address.text !== null && this.address.text.trim() !== "" ? this.address.text : null);
  sentence = $derived(this.address.text !== null ? null : (this.address.sentence ?? 0));

  known = $derived.by(() => {
    const map = new Map<number, Known>();
    const table = this.scene.value?.rows?.features;
    table?.ids.forEach((id, at) =>
      map.set(id, {
        slot: table.slots[at] ?? 0,
        points: table.points[at] ?? 0,
        count: table.counts[at] ?? 0,
        label: table.labels[at] ?? null,
      }),
    );
    return map;
  });

  /** The row that is locked: the reader's choice, or one that shows something rare and strong. */
  row = $derived.by(() => {
    const rows = this.scene.value?.rows;
    const count = this.scene.value?.tokenOfRow.length ?? 0;
    if (!rows || count === 0) return null;
    const wanted = this.address.token;
    if (wanted !== null) return Math.min(wanted, count - 1);
    let best = 0;
    let most = -1;
    for (let row = 0; row < count; row++) {
      const first = rows.ptr[row] ?? 0;
      const id = rows.ids[first];
      // Of the tokens that share a character the last one knows which it is.
      const token = this.tokenAt(row);
      const group = token && this.scene.value?.sentence.groups[token.group];
      const last = group && this.scene.value?.tokenOfRow[row] === group.first + group.len - 1;
      if (id === undefined || first === rows.ptr[row + 1] || !last || !/[\p{L}\p{N}]{3}|\p{Script=Han}|\p{Script=Katakana}/u.test(group.text)) continue;
      // The first position is an attention sink in models without BOS: never typical.
      const telling = row === 0 ? 0 : this.inks.rarity(this.known.get(id)?.points ?? 0, rows.tokens) + row / (100 * count);
      if (telling > most) [most, best] = [telling, row];
    }
    return best;
  });
  shownRow = $derived(this.preview ?? this.row);
  bars = $derived(this.shownRow === null ? [] : this.barsOf(this.shownRow));

  /** The feature that the inspector shows. */
  feature = $derived.by((): FeatureRef | null => {
    if (this.address.feature) return this.address.feature;
    const layer = this.layer;
    const first = this.row === null ? undefined : this.barsOf(this.row)[0];
    return layer === null || !first ? null : { layer, id: first.id };
  });
  /** The feature that is lit up, if it is one of the layer on show, and its value in every row. */
  lit = $derived(this.hover !== null && this.hover.layer === this.layer ? this.hover.id : null);
  litValues = $derived.by(() => (this.lit === null ? [] : this.valuesOf(this.lit)));

  // What a picture depends on, as texts: a step to the next token leaves them as they are, and with them all that was
  // computed from them.
  #inkSettings = $derived(JSON.stringify([this.address.hue, this.address.palette, this.address.rarity, this.address.pins]));
  #barSettings = $derived(JSON.stringify([this.address.min, this.address.dense, this.address.sort]));
  inks: Inks = $derived.by(() => {
    void this.#inkSettings;
    const points = this.percentiles.value ?? [];
    const ground = look.ground;
    return untrack(() => new Inks(ground, this.address, points));
  });
  #bars = $derived.by(() => {
    void this.#barSettings;
    void this.known;
    return new Map<number, Bar[]>();
  });

  /** Which state of the run's files the answers are of. */
  generation = $derived.by(() => this.run.value?.generation);

  constructor() {
    this.runs = new Resource(() => api.runs());
    this.run = new Resource(() => (this.runId === null ? null : api.run(this.runId)));
    this.scene = new Resource(() => this.#askScene());
    this.percentiles = new Resource(() => {
      const [id, layer] = [this.runId, this.layer];
      return this.address.rarity !== "percentile" || id === null || layer === null ? null : api.allPoints(id, layer);
    });
    $effect(() => this.#watch());
    $effect(() => this.#lookAhead());
    addEventListener("popstate", () => {
      this.preview = null;
      this.hover = null;
      this.address = parse(location.pathname, location.search);
    });
  }

  /** A run that is still growing is looked at again now and then. */
  #watch(): (() => void) | undefined {
    const run = this.run.value;
    if (run?.status !== "running") return;
    const timer = setInterval(async () => {
      const now = await api.run(run.id).load().catch(() => null);
      if (now && now.generation === run.generation && now.status === run.status) return;
      api.forget();
      this.run.again();
      this.scene.again();
    }, WATCH_MS);
    return () => clearInterval(timer);
  }

  /** The next sentence and the one before are fetched while nothing else is to do. */
  #lookAhead(): (() => void) | undefined {
    const [id, layer, sentence, scope] = [this.runId, this.layer, this.sentence, this.address.scope];
    const all = this.run.value?.n_sentences ?? 0;
    if (id === null || layer === null || sentence === null || !this.scene.value || this.scene.busy) return;
    const abort = new AbortController();
    const timer = setTimeout(() => {
      for (const near of [sentence + 1, sentence - 1])
        for (const ask of near < 0 || near >= all ? [] : [api.sentence(id, near), api.activations(id, near, layer, scope)])
          if (api.recall<unknown>(ask) === undefined) ask.load(abort.signal).catch(() => {});
    }, LOOK_AHEAD_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }

  #askScene(): api.Ask<Scene> | null {
    const [id, layer, sentence, live, scope] = [this.runId, this.layer, this.sentence, this.live, this.address.scope];
    const run = this.run.value;
    if (id === null || layer === null || run?.id !== id) return null;
    if (live !== null) {
      const ask = api.encode(id, live);
      return api.mapped(ask, `L${layer}`, (one) => scene(one.sentence, one.activations, layer, one.timings));
    }
    if (sentence === null || run.n_sentences === 0) return null;
    return api.both(api.sentence(id, sentence), api.activations(id, sentence, layer, scope), (one, rows) =>
      scene(one, rows, layer, null),
    );
  }

  /** Changes the address; a new resource is a step in the history, all else replaces. */
  go(change: Partial<Address>): void {
    // What was left open is written out, so that a copied link shows the same tomorrow.
    const from = { ...this.address, run: this.runId, sentence: this.sentence };
    const to = { ...from, ...change };
    const step = isStep(from, to);
    this.address = to;
    const text = print(to);
    if (text === location.pathname + location.search) return;
    if (step) history.pushState(null, "", text);
    else history.replaceState(null, "", text);
  }

  goSentence(sentence: number, token: number | null = null): void {
    this.preview = null;
    this.go({ run: this.runId, sentence, text: null, token, feature: token === null ? null : this.address.feature });
  }

  /** To the token at a position of a sentence; with BOS in front the position is not the row. */
  async goTo(sentence: number, pos: number, feature: FeatureRef): Promise<void> {
    if (this.runId === null) return;
    this.preview = null;
    const ask = api.sentence(this.runId, sentence);
    const one = api.recall(ask) ?? (await ask.load());
    const token = one.tokens.find((token) => token.pos === pos)?.row ?? null;
    this.go({ run: this.runId, sentence, text: null, token, feature, panel: "feature", layer: feature.layer });
  }

  lock(row: number): void {
    this.preview = null;
    this.go({ run: this.runId, sentence: this.sentence, token: row });
  }

  open(feature: FeatureRef): void {
    this.go({ run: this.runId, sentence: this.sentence, token: this.row, feature, panel: "feature", layer: feature.layer });
  }

  setLayer(layer: number): void {
    this.preview = null;
    this.hover = null;
    this.go({ run: this.runId, layer, sentence: this.sentence, feature: null, token: this.row });
  }

  stepLayer(by: number): void {
    const at = this.layers.findIndex((one) => one.layer === this.layer);
    const next = this.layers[at + by];
    if (next) this.setLayer(next.layer);
  }

  stepToken(by: number): void {
    const count = this.scene.value?.tokenOfRow.length ?? 0;
    if (count > 0) this.lock(Math.min(count - 1, Math.max(0, (this.row ?? 0) + by)));
  }

  stepSentence(by: number): void {
    const all = this.run.value?.n_sentences ?? 0;
    const next = (this.sentence ?? 0) + by;
    if (next >= 0 && next < all) this.goSentence(next);
  }

  /** To the next token, or the one before, in which the feature on show is active. */
  stepFire(by: 1 | -1): void {
    const [feature, rows, row] = [this.feature, this.scene.value?.rows, this.row];
    if (!feature || !rows || row === null || rows.layer !== feature.layer) return;
    const count = rows.ptr.length - 1;
    for (let next = row + by; next >= 0 && next < count; next += by)
      if (rows.ids.slice(rows.ptr[next], rows.ptr[next + 1]).includes(feature.id)) {
        this.go({ token: next, feature, sentence: this.sentence, run: this.runId });
        return;
      }
  }

  isPinned(feature: FeatureRef): boolean {
    return this.address.pins.some((pin) => same(pin, feature));
  }

  togglePin(feature: FeatureRef): void {
    const pins = this.isPinned(feature)
      ? this.address.pins.filter((pin) => !same(pin, feature))
      : [...this.address.pins, feature].slice(-MOST_PINS);
    this.go({ pins });
  }

  valueAt(row: number, id: number): number {
    const rows = this.scene.value?.rows;
    if (!rows) return 0;
    for (let at = rows.ptr[row] ?? 0; at < (rows.ptr[row + 1] ?? 0); at++) if (rows.ids[at] === id) return rows.vals[at] ?? 0;
    return 0;
  }

  nnz(row: number): number {
    return this.scene.value?.rows?.nnz[row] ?? 0;
  }

  tokenAt(row: number): api.Token | undefined {
    const scene = this.scene.value;
    return scene?.sentence.tokens[scene.tokenOfRow[row] ?? -1];
  }

  /** The values of a feature in all rows of the sentence, 0 where it is not active. */
  valuesOf(id: number): number[] {
    const rows = this.scene.value?.rows;
    if (!rows) return [];
    const values = new Array<number>(rows.ptr.length - 1).fill(0);
    let row = 0;
    rows.ids.forEach((one, at) => {
      if (one !== id) return;
      while (at >= (rows.ptr[row + 1] ?? Infinity)) row++;
      values[row] = rows.vals[at] ?? 0;
    });
    return values;
  }

  /** The bars of a row, in the order and within the limits that the reader chose. */
  barsOf(row: number): Bar[] {
    const known = this.#bars.get(row);
    if (known) return known;
    const bars = untrack(() => this.#makeBars(row));
    this.#bars.set(row, bars);
    return bars;
  }

  #makeBars(row: number): Bar[] {
    const rows = this.scene.value?.rows;
    if (!rows) return [];
    const { min, dense, sort } = this.address;
    const bars: Bar[] = [];
    const [first, end] = [rows.ptr[row] ?? 0, rows.ptr[row + 1] ?? 0];
    for (let at = first; at < end; at++) {
      const id = rows.ids[at] ?? 0;
      const value = rows.vals[at] ?? 0;
      const known = this.known.get(id) ?? { slot: 0, points: 0, count: 0, label: null };
      if (value < min) continue;
      if (dense < 1 && rows.tokens > 0 && known.count / rows.tokens > dense) continue;
      bars.push({ ...known, id, value, rank: at - first + 1 });
    }
    if (sort === "id") bars.sort((a, b) => a.id - b.id);
    if (sort === "rare") bars.sort((a, b) => a.points - b.points || b.value - a.value);
    if (sort === "common") bars.sort((a, b) => b.points - a.points || b.value - a.value);
    return bars;
  }
}

let made: View | undefined;

/** The one view of the page; first called by the page's root, within whose life its answers are followed. */
export function view(): View {
  return (made ??= new View());
}
