// Every key of the page, in one table: what is done and what `?` shows.
import { look } from "./theme.svelte.ts";
import type { Words } from "./text/en.ts";
import type { View } from "./view.svelte.ts";

interface Key {
  keys: readonly string[];
  says: (words: Words) => string;
  /** Null: handled where it is pressed, listed only. */
  act: ((view: View, key: string) => void) | null;
}

const focusOn = (id: string) => {
  const box = document.getElementById(id);
  box?.focus();
  if (box instanceof HTMLInputElement) box.select();
};

const tokens = () => document.querySelector<HTMLElement>('.strip [tabindex="0"]')?.focus();

const shownOrHovered = (view: View) => view.hover ?? view.feature;

export const KEYS: readonly Key[] = [
  { keys: ["←", "→", "h", "l"], says: (w) => w.keyToken, act: (v, key) => v.stepToken(key === "→" || key === "l" ? 1 : -1) },
  { keys: ["↑", "↓", "]", "["], says: (w) => w.keyLayer, act: (v, key) => v.stepLayer(key === "↑" || key === "]" ? 1 : -1) },
  { keys: ["j", "k"], says: (w) => w.keySentence, act: (v, key) => v.stepSentence(key === "j" ? 1 : -1) },
  { keys: ["n", "p"], says: (w) => w.keyFires, act: (v, key) => v.stepFire(key === "n" ? 1 : -1) },
  { keys: ["Enter"], says: (w) => w.keyLock, act: null },
  { keys: ["Esc"], says: (w) => w.keyClear, act: (v) => clear(v) },
  {
    keys: ["f"],
    says: (w) => w.keyFeature,
    act: (v) => {
      const bar = v.bars[0];
      if (v.hover) v.open(v.hover);
      else if (bar && v.layer !== null) v.open({ layer: v.layer, id: bar.id });
      document.getElementById("panel")?.focus();
    },
  },
  {
    keys: ["x"],
    says: (w) => w.keyPin,
    act: (v) => {
      const feature = shownOrHovered(v);
      if (feature) v.togglePin(feature);
    },
  },
  {
    keys: ["1", "…", "8"],
    says: (w) => w.keyPins,
    act: (v, key) => {
      const pin = v.address.pins[Number(key) - 1];
      if (pin) v.open(pin);
    },
  },
  {
    keys: ["c"],
    says: (w) => w.keyCompare,
    act: (v) => {
      if (v.address.panel === "compare") v.picking = !v.picking;
      v.go({ run: v.runId, sentence: v.sentence, token: v.row, panel: "compare", feature: null });
    },
  },
  { keys: ["/"], says: (w) => w.keySearch, act: () => focusOn("search") },
  { keys: ["⌘K", "Ctrl K"], says: (w) => w.keyPalette, act: null },
  { keys: ["g s", "g f", "g t", "g r"], says: (w) => w.keyGo, act: null },
  { keys: ["+", "−"], says: (w) => w.keyTop, act: (v, key) => v.go({ top: Math.min(100, Math.max(5, v.address.top + (key === "+" ? 5 : -5))) }) },
  { keys: ["s"], says: (w) => w.keyScope, act: (v) => v.go({ scope: v.address.scope === "run" ? "sentence" : "run" }) },
  { keys: ["t"], says: (w) => w.keyTheme, act: () => look.next() },
  { keys: ["e"], says: (w) => w.keyExport, act: (v) => (v.dialog = "export") },
  { keys: ["?"], says: (w) => w.keyHelp, act: (v) => (v.dialog = "keys") },
];

const NAMES: Record<string, string> = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc", "-": "−", "=": "+" };

const acts = new Map<string, Key["act"]>();
for (const one of KEYS) for (const key of one.keys) acts.set(key, one.act);
for (let pin = 1; pin <= 8; pin++) acts.set(String(pin), acts.get("1") ?? null);

function clear(view: View): void {
  if (view.picking) view.picking = false;
  else if (view.hover || view.preview !== null) {
    view.hover = null;
    view.preview = null;
  } else if (view.address.q !== "" || view.address.has !== null) view.go({ q: "", has: null });
  else if (view.address.panel !== "feature") view.go({ panel: "feature" });
  else if (view.address.feature !== null) view.go({ run: view.runId, sentence: view.sentence, token: view.row, feature: null });
}

const typing = (target: EventTarget | null) =>
  target instanceof HTMLElement && (target.isContentEditable || /^(input|textarea|select)$/i.test(target.tagName)) &&
  !(target instanceof HTMLInputElement && target.type === "range");

let gone = -Infinity;

export function onKey(view: View, event: KeyboardEvent): void {
  if (event.defaultPrevented || event.isComposing) return;
  if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    view.dialog = "palette";
    return;
  }
  if (event.metaKey || event.ctrlKey || event.altKey || view.dialog !== null) return;
  if (typing(event.target)) {
    if (event.key === "Escape") tokens();
    return;
  }
  const letter = event.key.length === 1;
  if (letter && !look.letters) return;
  const after = event.timeStamp - gone < 1200;
  gone = -Infinity;
  if (event.key === "g") {
    gone = event.timeStamp;
    return;
  }
  if (after && "sftr".includes(event.key)) {
    event.preventDefault();
    const panel = (to: "features" | "health") => view.go({ run: view.runId, sentence: view.sentence, token: view.row, panel: to, feature: null });
    if (event.key === "s") document.querySelector<HTMLElement>('nav [role="option"][tabindex="0"]')?.focus();
    if (event.key === "f") panel("features");
    if (event.key === "r") panel("health");
    if (event.key === "t") tokens();
    return;
  }
  const name = NAMES[event.key] ?? event.key;
  const act = acts.get(name);
  if (!act || name === "…") return;
  event.preventDefault();
  act(view, name);
}
