// The colour of a feature: the same arithmetic as crates/report (`colour`, `rarity`), which says why it is as it is.
// Only + - * / and the square root are used, in a fixed order, so that both find the same bytes; both are tested
// against fixtures/golden/colours.json.

export type Ground = "light" | "dark";
export type Palette = "oklch" | "hsv";
export type Rgb = readonly [number, number, number];

export interface Hue {
  /** From 0 to 1. */
  turns: number;
  /** 0, 1 or 2. */
  tier: number;
}

const CHROMA_CAP = 0.14;
const CHROMA_FLOOR = 0.15;
const GOLDEN_TURN = 0.6180339887498949;
const FIRST_TURN = 0.7;
const TIERS = 3;
export const NEUTRAL_TURN = FIRST_TURN;

const TIER_LIGHTNESS = { light: [0.53, 0.42, 0.63], dark: [0.71, 0.82, 0.61] } as const;
const HSV_VALUE = { light: 0.85, dark: 0.95 } as const;
const RAMP = {
  light: [
    [0.97, 0.008],
    [0.4, 0.15],
  ],
  dark: [
    [0.23, 0.012],
    [0.88, 0.13],
  ],
} as const;
const PINS = {
  light: [0x005cbd, 0xe26a1e, 0x009b8b, 0x8f3d6d, 0xa376e9, 0x285600, 0x52001c, 0x04107a],
  dark: [0x4a7ae4, 0xfe9b1b, 0x00c998, 0xc05d8b, 0xd59dff, 0xeff159, 0xb4ecff, 0x918100],
} as const;

const clamp = (x: number, low: number, high: number) => (x < low ? low : x > high ? high : x);

function sinCos(turns: number): [number, number] {
  const quarter = Math.floor(turns * 4 + 0.5);
  const x = (turns - quarter / 4) * (2 * Math.PI);
  const x2 = x * x;
  let sin = 1;
  let cos = 1;
  for (let term = 8; term >= 1; term--) {
    const a = 2 * term;
    sin = 1 - (sin * x2) / (a * (a + 1));
    cos = 1 - (cos * x2) / (a * (a - 1));
  }
  sin *= x;
  switch (quarter % 4) {
    case 0:
      return [sin, cos];
    case 1:
      return [cos, -sin];
    case 2:
      return [-sin, -cos];
    default:
      return [-cos, sin];
  }
}

function ln(of: number): number {
  let x = of;
  let exponent = 0;
  while (x > Math.SQRT2) {
    x /= 2;
    exponent += 1;
  }
  while (x < Math.SQRT1_2) {
    x *= 2;
    exponent -= 1;
  }
  const z = (x - 1) / (x + 1);
  const z2 = z * z;
  let sum = 0;
  for (let term = 11; term >= 0; term--) sum = sum * z2 + 1 / (2 * term + 1);
  return exponent * Math.LN2 + 2 * z * sum;
}

function cubeRoot(x: number): number {
  let y = 1;
  for (let step = 0; step < 16; step++) y = (2 * y + x / (y * y)) / 3;
  return y;
}

function fifthRoot(x: number): number {
  let y = 1;
  for (let step = 0; step < 16; step++) y = (4 * y + x / (y * y * y * y)) / 5;
  return y;
}

function linear(lightness: number, chroma: number, hue: number): Rgb {
  const [sin, cos] = sinCos(hue);
  const a = chroma * cos;
  const b = chroma * sin;
  let l = lightness + 0.3963377774 * a + 0.2158037573 * b;
  let m = lightness - 0.1055613458 * a - 0.0638541728 * b;
  let s = lightness - 0.0894841775 * a - 1.291485548 * b;
  l = l * l * l;
  m = m * m * m;
  s = s * s * s;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
}

function encode(channel: number): number {
  const x = clamp(channel, 0, 1);
  let curved = 12.92 * x;
  if (x > 0.0031308) {
    const y = cubeRoot(Math.sqrt(Math.sqrt(x)));
    curved = 1.055 * (y * y * y * y * y) - 0.055;
  }
  return Math.floor(curved * 255 + 0.5);
}

function decode(byte: number): number {
  const v = byte / 255;
  if (v <= 0.04045) return v / 12.92;
  const t = (v + 0.055) / 1.055;
  const y = fifthRoot(t);
  return t * t * (y * y);
}

function maxChroma(lightness: number, hue: number, cap: number): number {
  const fits = (chroma: number) => linear(lightness, chroma, hue).every((channel) => channel >= 0 && channel <= 1);
  if (fits(cap)) return cap;
  let low = 0;
  let high = cap;
  for (let step = 0; step < 24; step++) {
    const middle = (low + high) / 2;
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}

function oklch(lightness: number, chroma: number, hue: number): Rgb {
  const [r, g, b] = linear(lightness, chroma, hue);
  return [encode(r), encode(g), encode(b)];
}

function hsv(hue: number, saturation: number, value: number): Rgb {
  const channel = (n: number) => {
    let k = n + hue * 6;
    if (k >= 6) k -= 6;
    const ramp = clamp(Math.min(k, 4 - k), 0, 1);
    return Math.floor((value - value * saturation * ramp) * 255 + 0.5);
  };
  return [channel(5), channel(3), channel(1)];
}

export const hex = (rgb: Rgb): string => `#${rgb.map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
const fromHex = (number: number): Rgb => [number >> 16, (number >> 8) & 255, number & 255];

function luminance(rgb: Rgb): number {
  return 0.2126 * decode(rgb[0]) + 0.7152 * decode(rgb[1]) + 0.0722 * decode(rgb[2]);
}

export function contrast(one: Rgb, other: Rgb): number {
  const a = luminance(one) + 0.05;
  const b = luminance(other) + 0.05;
  return a > b ? a / b : b / a;
}

/** Black or white, whichever is read better on this colour. */
export function textOn(rgb: Rgb): Rgb {
  const black: Rgb = [0, 0, 0];
  const white: Rgb = [255, 255, 255];
  return contrast(rgb, black) >= contrast(rgb, white) ? black : white;
}

export function hueOfSlot(slot: number): Hue {
  const turns = slot * GOLDEN_TURN + FIRST_TURN;
  return { turns: turns - Math.floor(turns), tier: slot % TIERS };
}

const MASK = (1n << 64n) - 1n;

export function splitmix64(x: bigint): bigint {
  let z = (x + 0x9e3779b97f4a7c15n) & MASK;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return z ^ (z >> 31n);
}

export function hueOfId(layer: number, id: number): Hue {
  const hash = splitmix64((BigInt(layer) << 32n) | BigInt(id));
  return { turns: Number(hash >> 32n) / 4294967296, tier: Number((hash & 0xffffffffn) % BigInt(TIERS)) };
}

export function feature(ground: Ground, palette: Palette, hue: Hue, rarity: number): Rgb {
  const saturation = CHROMA_FLOOR + (1 - CHROMA_FLOOR) * rarity;
  if (palette === "hsv") return hsv(hue.turns, saturation, HSV_VALUE[ground]);
  const lightness = TIER_LIGHTNESS[ground][hue.tier] ?? TIER_LIGHTNESS[ground][0];
  return oklch(lightness, saturation * maxChroma(lightness, hue.turns, CHROMA_CAP), hue.turns);
}

/** For a feature that has no colour of its own, because others are pinned. */
export function grey(ground: Ground, rarity: number): Rgb {
  const [, strong, weak] = TIER_LIGHTNESS[ground];
  return oklch(weak + (strong - weak) * rarity, 0, 0);
}

export function pin(ground: Ground, place: number): Rgb {
  return fromHex(PINS[ground][place % PINS[ground].length] ?? 0);
}

export function ramp(ground: Ground, turns: number, amount: number): Rgb {
  const [[l0, c0], [l1, c1]] = RAMP[ground];
  const lightness = l0 + (l1 - l0) * amount;
  return oklch(lightness, maxChroma(lightness, turns, c0 + (c1 - c0) * amount), turns);
}

export const logRarity = (score: number, tokens: number): number => {
  const floor = Math.max(50 / tokens, 0.01);
  return 1 - clamp(ln(Math.max(score, floor) / floor) / ln(100 / floor), 0, 1);
};

export type Scale = "log" | "linear" | "percentile";

/** The rarity of a feature by its points; for percentiles the points of all features of the layer have to be known. */
export function rarities(scale: Scale, tokens: number, all: readonly number[]): (points: number) => number {
  if (tokens === 0) return () => 1;
  if (scale === "log") return (points) => logRarity(points / tokens, tokens);
  if (scale === "linear") return (points) => 1 - points / tokens / 100;
  const sorted = [...all].sort((a, b) => a - b);
  const keys: number[] = [];
  const shares: number[] = [];
  for (let begin = 0; begin < sorted.length; ) {
    let end = begin;
    while (end < sorted.length && sorted[end] === sorted[begin]) end++;
    keys.push(sorted[begin] ?? 0);
    shares.push(1 - (begin + 0.5 * (end - begin)) / sorted.length);
    begin = end;
  }
  return (points) => {
    let low = 0;
    let high = keys.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((keys[middle] ?? 0) <= points) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? 1 : (shares[low - 1] ?? 1);
  };
}
