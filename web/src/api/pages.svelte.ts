import { Problem, recall, type Ask } from "./client.ts";
import { RETRY_MS } from "./resource.svelte.ts";

interface Page<T> {
  total: number;
  items: T[];
}

/** A long list of which only the pages that are looked at are fetched, wherever in it they lie. */
export class Pages<T> {
  /** With holes where nothing has been fetched yet. */
  items = $state.raw<(T | undefined)[]>([]);
  total = $state<number | null>(null);
  problem = $state.raw<Problem>();
  #again = $state(0);
  #generation = 0;
  readonly #loading = new Map<number, AbortController>();
  readonly #there = new Set<number>();
  readonly #ask: (offset: number, limit: number) => Ask<Page<T>> | null;
  readonly #size: number;

  /** To be made while a component is being set up. What `ask` reads of the view starts the list anew when it changes. */
  constructor(size: number, ask: (offset: number, limit: number) => Ask<Page<T>> | null) {
    this.#size = size;
    this.#ask = ask;
    $effect(() => {
      const first = ask(0, size);
      void this.#again;
      this.#generation += 1;
      this.#stop();
      this.#there.clear();
      if (first) this.#load(0, first, true);
      return () => this.#stop();
    });
  }

  /** Sees to it that the items from one up to another will be there; pages asked for before are not waited for. */
  need(from: number, to: number): void {
    if (this.total === null) return;
    const [first, last] = [Math.floor(from / this.#size), Math.floor((Math.min(to, this.total) - 1) / this.#size)];
    for (const [page, abort] of this.#loading)
      if (page < first || page > last) {
        abort.abort();
        this.#loading.delete(page);
      }
    for (let page = first; page <= last; page++) {
      if (this.#there.has(page) || this.#loading.has(page)) continue;
      const ask = this.#ask(page * this.#size, this.#size);
      if (ask) this.#load(page, ask, false);
    }
  }

  again(): void {
    this.#again += 1;
  }

  #stop(): void {
    for (const abort of this.#loading.values()) abort.abort();
    this.#loading.clear();
  }

  #load(page: number, ask: Ask<Page<T>>, fresh: boolean): void {
    const generation = this.#generation;
    const abort = new AbortController();
    this.#loading.set(page, abort);
    const known = recall(ask);
    (known ? Promise.resolve(known) : ask.load(abort.signal)).then(
      (answer) => {
        if (generation !== this.#generation || abort.signal.aborted) return;
        const items = fresh ? [] : this.items.slice();
        answer.items.forEach((item, at) => (items[page * this.#size + at] = item));
        this.#loading.delete(page);
        this.#there.add(page);
        this.items = items;
        this.total = answer.total;
        this.problem = undefined;
      },
      (error: unknown) => {
        if (generation !== this.#generation || abort.signal.aborted) return;
        this.#stop();
        this.items = [];
        this.total = null;
        this.problem = error instanceof Problem ? error : new Problem("internal", String(error));
        if (this.problem.code === "indexing") setTimeout(() => generation === this.#generation && this.again(), RETRY_MS);
      },
    );
  }
}
