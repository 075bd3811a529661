import { Problem, recall, type Ask } from "./client.ts";
import { RETRY_MS } from "./resource.svelte.ts";

interface Page<T> {
  total: number;
  items: T[];
  next_cursor: string | null;
}

/** A long list that is fetched page by page, as far as it is looked at. */
export class Pages<T> {
  items = $state.raw<T[]>([]);
  total = $state<number | null>(null);
  problem = $state.raw<Problem>();
  #cursor: string | null = $state(null);
  /** Whether there is more than what has been fetched. */
  more = $derived(this.#cursor !== null);
  #wanted = 0;
  #abort: AbortController | undefined;
  #generation = 0;
  #again = $state(0);
  readonly #ask: (cursor: string | null) => Ask<Page<T>> | null;

  /** To be made while a component is being set up. What `ask` reads of the view starts the list anew when it changes. */
  constructor(ask: (cursor: string | null) => Ask<Page<T>> | null) {
    this.#ask = ask;
    $effect(() => {
      const first = ask(null);
      void this.#again;
      this.#abort?.abort();
      this.#generation += 1;
      this.#abort = undefined;
      this.#cursor = null;
      this.#wanted = 0;
      if (first) this.#load(first, true);
      return () => this.#abort?.abort();
    });
  }

  /** Sees to it that the items up to this one will be there. */
  need(to: number): void {
    this.#wanted = Math.max(this.#wanted, to);
    this.#more();
  }

  again(): void {
    this.#again += 1;
  }

  #more(): void {
    if (this.#abort || this.#cursor === null || this.items.length > this.#wanted) return;
    const next = this.#ask(this.#cursor);
    if (next) this.#load(next, false);
  }

  #load(ask: Ask<Page<T>>, first: boolean): void {
    const generation = this.#generation;
    const abort = new AbortController();
    this.#abort = abort;
    const known = recall(ask);
    (known ? Promise.resolve(known) : ask.load(abort.signal)).then(
      (page) => {
        if (generation !== this.#generation) return;
        this.#abort = undefined;
        this.items = first ? page.items : [...this.items, ...page.items];
        this.total = page.total;
        this.#cursor = page.next_cursor;
        this.problem = undefined;
        this.#more();
      },
      (error: unknown) => {
        if (generation !== this.#generation || abort.signal.aborted) return;
        if (error instanceof Problem && error.code === "indexing") setTimeout(() => generation === this.#generation && this.again(), RETRY_MS);
        this.#abort = undefined;
        this.#cursor = null;
        this.items = [];
        this.total = null;
        this.problem = error instanceof Problem ? error : new Problem("internal", String(error));
      },
    );
  }
}
