import { Problem, recall, type Ask } from "./client.ts";

interface Link<T> {
  items: T[];
  next_cursor: string | null;
}

/** A list whose parts follow one another: each answer says where the next begins. */
export class Chain<T> {
  items = $state.raw<T[]>([]);
  problem = $state.raw<Problem>();
  cursor = $state.raw<string | null>(null);
  #abort: AbortController | undefined;
  readonly #ask: (cursor: string | null) => Ask<Link<T>>;

  /** To be made while a component is being set up. What `ask` reads starts the list anew when it changes. */
  constructor(ask: (cursor: string | null) => Ask<Link<T>>) {
    this.#ask = ask;
    $effect(() => {
      this.#load(ask(null), true);
      return () => this.#abort?.abort();
    });
  }

  more(): void {
    if (this.cursor !== null) this.#load(this.#ask(this.cursor), false);
  }

  #load(ask: Ask<Link<T>>, first: boolean): void {
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    const known = recall(ask);
    (known ? Promise.resolve(known) : ask.load(abort.signal)).then(
      (link) => {
        if (abort.signal.aborted) return;
        this.items = first ? link.items : [...this.items, ...link.items];
        this.cursor = link.next_cursor;
        this.problem = undefined;
      },
      (error: unknown) => {
        if (!abort.signal.aborted) this.problem = error instanceof Problem ? error : new Problem("internal", String(error));
      },
    );
  }
}
