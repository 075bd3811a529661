// Asking the server. Answers are kept by address: they change only with the run's generation.
import type { components } from "./schema.gen.ts";

type Schemas = components["schemas"];
export type Run = Schemas["RunDetail"];
export type RunList = Schemas["RunList"];
export type RunSummary = Schemas["RunSummary"];
export type LayerInfo = Schemas["LayerInfo"];
export type Health = Schemas["Health"];
export type SentenceList = Schemas["SentenceList"];
export type SentenceItem = Schemas["SentenceItem"];
export type Sentence = Schemas["Sentence"];
export type Token = Schemas["Token"];
export type Activations = Schemas["Activations"];
export type LayerActivations = Schemas["LayerActivations"];
export type Heatmap = Schemas["Heatmap"];
export type Feature = Schemas["Feature"];
export type FeatureList = Schemas["FeatureList"];
export type FeatureDetail = Schemas["FeatureDetail"];
export type FeatureActivations = Schemas["FeatureActivations"];
export type Histogram = Schemas["Histogram"];
export type TokenTypes = Schemas["TokenTypes"];
export type Neighbors = Schemas["Neighbors"];
export type ContextToken = Schemas["ContextToken"];
export type FeatureCorpus = Schemas["FeatureCorpus"];
export type Logits = Schemas["Logits"];
export type Comparison = Schemas["Comparison"];
export type Encoded = Schemas["Encoded"];
export type Version = Schemas["Version"];

/** What the server, or the way to it, had to say against an answer. */
export class Problem extends Error {
  constructor(
    readonly code: Schemas["Problem"]["code"] | "unreachable",
    readonly detail: string,
    readonly status = 0,
  ) {
    super(detail);
  }
}

/** Something to ask for: its address names it, `load` fetches it. */
export interface Ask<T> {
  readonly key: string;
  readonly load: (signal?: AbortSignal) => Promise<T>;
}

const MOST_KEPT = 300;
const kept = new Map<string, unknown>();

export function recall<T>(ask: Ask<T>): T | undefined {
  return kept.get(ask.key) as T | undefined;
}

export function forget(): void {
  kept.clear();
}

function keep(key: string, value: unknown): void {
  kept.delete(key);
  kept.set(key, value);
  const oldest = kept.keys().next();
  if (kept.size > MOST_KEPT && !oldest.done) kept.delete(oldest.value);
}

type Query = Record<string, string | number | boolean | null | undefined>;

async function answer<T>(request: Promise<Response>): Promise<T> {
  let response: Response;
  try {
    response = await request;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem("unreachable", String(error));
  }
  if (response.ok) return (await response.json()) as T;
  const problem = (await response.json().catch(() => null)) as Schemas["Problem"] | null;
  throw new Problem(problem?.code ?? "internal", problem?.detail ?? `HTTP ${response.status}`, response.status);
}

function get<T>(path: string, query: Query = {}): Ask<T> {
  const ask = new URLSearchParams();
  for (const [key, value] of Object.entries(query))
    if (value !== null && value !== undefined && value !== "" && !(key === "offset" && value === 0)) ask.set(key, String(value));
  const text = ask.toString();
  const key = `/api/v1${path}${text === "" ? "" : `?${text}`}`;
  return {
    key,
    load: async (signal) => {
      const value = await answer<T>(fetch(key, signal ? { signal } : {}));
      keep(key, value);
      return value;
    },
  };
}

const at = (run: string) => `/runs/${encodeURIComponent(run)}`;

export const version = () => get<Version>("/version");
export const runs = () => get<RunList>("/runs");
export const run = (id: string) => get<Run>(at(id));
export const health = (id: string) => get<Health>(`${at(id)}/health`);

export interface Search {
  q?: string;
  regex?: boolean;
  feature?: string | null;
  sort?: string;
  offset?: number;
  limit?: number;
}
export const sentences = (id: string, search: Search) => get<SentenceList>(`${at(id)}/sentences`, { ...search });
export const sentence = (id: string, index: number) => get<Sentence>(`${at(id)}/sentences/${index}`);
export const activations = (id: string, index: number, layer: number, scope: string) =>
  get<Activations>(`${at(id)}/sentences/${index}/activations`, { layers: layer, top_k: 200, scope });
export const heatmap = (id: string, index: number, metric: string, feature: string | null) =>
  get<Heatmap>(`${at(id)}/sentences/${index}/heatmap`, { metric, feature });

export interface FeatureSearch {
  layer: number;
  sort: string;
  order?: string;
  filter?: string;
  offset?: number;
  limit?: number;
}
export const features = (id: string, search: FeatureSearch) => get<FeatureList>(`${at(id)}/features`, { ...search });

const of = (id: string, layer: number, feature: number) => `${at(id)}/features/${layer}/${feature}`;
export const feature = (id: string, layer: number, f: number) => get<FeatureDetail>(of(id, layer, f));
export const contexts = (id: string, layer: number, f: number, mode: string, cursor: string | null) =>
  get<FeatureActivations>(`${of(id, layer, f)}/activations`, { mode, cursor, limit: 12, context: 10 });
export const histogram = (id: string, layer: number, f: number) => get<Histogram>(`${of(id, layer, f)}/histogram`);
export const tokenTypes = (id: string, layer: number, f: number) =>
  get<TokenTypes>(`${of(id, layer, f)}/tokens`, { limit: 12 });
export const neighbors = (id: string, layer: number, f: number, by: "decoder" | "coact") =>
  get<Neighbors>(`${of(id, layer, f)}/neighbors`, { by, k: 8 });
export const corpus = (id: string, layer: number, f: number) => get<FeatureCorpus>(`${of(id, layer, f)}/corpus`);
export const logits = (id: string, layer: number, f: number) => get<Logits>(`${of(id, layer, f)}/logits`, { k: 10 });

export const compare = (id: string, a: string, b: string) => get<Comparison>(`${at(id)}/compare`, { a, b });

export const encode = (id: string, text: string): Ask<Encoded> => {
  const key = `encode ${id} ${text}`;
  return {
    key,
    load: async (signal) => {
      const value = await answer<Encoded>(
        fetch("/api/v1/encode", {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ run: id, text, top_k: 1000 }),
          ...(signal ? { signal } : {}),
        }),
      );
      keep(key, value);
      return value;
    },
  };
};

/** The points of all features of a layer, for percentiles. */
export const allPoints = (id: string, layer: number): Ask<number[]> => ({
  key: `points ${id} ${layer}`,
  load: async (signal) => {
    const points: number[] = [];
    let cursor: string | null = null;
    do {
      const page: Schemas["Scores"] = await get<Schemas["Scores"]>(`${at(id)}/scores`, { layer, limit: 10000, cursor }).load(signal);
      points.push(...page.points);
      cursor = page.next_cursor;
    } while (cursor !== null);
    keep(`points ${id} ${layer}`, points);
    return points;
  },
});

/** Two answers as one: both have to be there. */
export function both<A, B, C>(a: Ask<A>, b: Ask<B>, join: (a: A, b: B) => C): Ask<C> {
  const key = `${a.key} ${b.key}`;
  return {
    key,
    load: async (signal) => {
      const [one, other] = await Promise.all([recall(a) ?? a.load(signal), recall(b) ?? b.load(signal)]);
      const value = join(one, other);
      keep(key, value);
      return value;
    },
  };
}

export function mapped<A, B>(a: Ask<A>, name: string, map: (a: A) => B): Ask<B> {
  const key = `${a.key} ${name}`;
  return {
    key,
    load: async (signal) => {
      const value = map(recall(a) ?? (await a.load(signal)));
      keep(key, value);
      return value;
    },
  };
}
