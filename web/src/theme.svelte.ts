import type { Ground } from "./colour.ts";

export const THEMES = ["auto", "light", "dark", "contrast"] as const;
export type Theme = (typeof THEMES)[number];

class Look {
  theme = $state<Theme>(THEMES.find((one) => one === localStorage.getItem("llamascope.theme")) ?? "auto");
  #systemDark = $state(false);
  /** On what colours are drawn. High contrast follows the system between white and black. */
  ground = $derived<Ground>(
    this.theme === "dark" || (this.theme !== "light" && this.#systemDark) ? "dark" : "light",
  );
  letters = $state(localStorage.getItem("llamascope.letters") !== "off");

  constructor() {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    this.#systemDark = dark.matches;
    dark.addEventListener("change", () => (this.#systemDark = dark.matches));
  }

  choose(theme: Theme): void {
    this.theme = theme;
    localStorage.setItem("llamascope.theme", theme);
    if (theme === "auto") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = theme;
  }

  next(): void {
    this.choose(THEMES[(THEMES.indexOf(this.theme) + 1) % THEMES.length] ?? "auto");
  }

  setLetters(on: boolean): void {
    this.letters = on;
    localStorage.setItem("llamascope.letters", on ? "on" : "off");
  }
}

export const look = new Look();
