import { Problem, recall, type Ask } from "./client.ts";

export const RETRY_MS = 1000;

/** An answer that follows what is asked for. While the next one is on its way the last one stays. */
export class Resource<T> {
  value = $state.raw<T>();
  problem = $state.raw<Problem>();
  busy = $state(false);
  /** The address of `value`. */
  key = $state.raw<string>();
  #again = $state(0);

  /** To be made while a component is being set up: it lives as long as the component. */
  constructor(ask: () => Ask<T> | null) {
    $effect(() => {
      const wanted = ask();
      void this.#again;
      if (wanted === null) {
        this.value = undefined;
        this.problem = undefined;
        this.key = undefined;
        this.busy = false;
        return;
      }
      const known = recall(wanted);
      if (known !== undefined) {
        this.#put(wanted.key, known);
        return;
      }
      const abort = new AbortController();
      this.busy = true;
      wanted.load(abort.signal).then(
        (value) => {
          if (!abort.signal.aborted) this.#put(wanted.key, value);
        },
        (error: unknown) => {
          if (abort.signal.aborted) return;
          // The server is reading the run; it says how far it is, and is asked again.
          if (error instanceof Problem && error.code === "indexing") setTimeout(() => !abort.signal.aborted && this.again(), RETRY_MS);
          this.value = undefined;
          this.problem = error instanceof Problem ? error : new Problem("internal", String(error));
          this.key = undefined;
          this.busy = false;
        },
      );
      return () => abort.abort();
    });
  }

  again(): void {
    this.#again += 1;
  }

  #put(key: string, value: T): void {
    this.value = value;
    this.key = key;
    this.problem = undefined;
    this.busy = false;
  }
}
