import { en, type Words } from "./en.ts";
import { ja } from "./ja.ts";

export type Language = "en" | "ja";
const dictionaries: Record<Language, Words> = { en, ja };

function first(): Language {
  const known = document.documentElement.lang;
  if (localStorage.getItem("llamascope.lang") !== null && (known === "en" || known === "ja")) return known;
  return navigator.language.startsWith("ja") ? "ja" : "en";
}

class Language_ {
  now = $state<Language>(first());
  words = $derived(dictionaries[this.now]);

  choose(language: Language): void {
    this.now = language;
    localStorage.setItem("llamascope.lang", language);
  }
}

export const language = new Language_();

/** The dictionary of the language that is on; read it in markup, `t().run`, and it follows a change. */
export const t = (): Words => language.words;
