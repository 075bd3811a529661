// Numbers and tokens as a reader wants them.

/** Three significant digits, without an exponent where that reads better. */
export function value(number: number): string {
  const size = Math.abs(number);
  if (size === 0) return "0";
  if (size >= 1e6 || size < 1e-4) return number.toExponential(2);
  if (size >= 100) return number.toFixed(0);
  if (size >= 10) return number.toFixed(1);
  if (size >= 1) return number.toFixed(2);
  return number.toPrecision(2);
}

export function percent(share: number): string {
  const hundred = share * 100;
  if (hundred === 0) return "0 %";
  if (hundred < 0.01) return "<0.01 %";
  return `${hundred >= 10 ? hundred.toFixed(0) : hundred >= 1 ? hundred.toFixed(1) : hundred.toFixed(2)} %`;
}

/** A score of 0 to 100. */
export function score(number: number): string {
  if (number === 0) return "0";
  if (number < 0.01) return "<0.01";
  return number >= 10 ? number.toFixed(1) : number.toFixed(2);
}

export function count(number: number): string {
  return String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** A token's text with what cannot be seen made visible; a leading space is left to the caller. */
export function glyphs(text: string): string {
  const shown = text.replace(/\r\n|\n|\r/g, "↵").replace(/\t/g, "→");
  return shown.trim() === "" && shown !== "" ? shown.replace(/[ \u00a0]/g, "·").replace(/\u3000/g, "□") : shown;
}

export function hex(text: string): string {
  return [...new TextEncoder().encode(text)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

/** Whether a token begins with the space that parts it from the word before. */
export const hasSpace = (text: string): boolean => /^[ \u00a0]/.test(text) && text.trim() !== "";

/** A token without that space; blank ones as glyphs. */
export const bare = (text: string): string => glyphs(hasSpace(text) ? text.slice(1) : text);
