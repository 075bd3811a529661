import * as colour from "./colour.ts";
import type { Address } from "./address.ts";

/** The colours of features under the settings of the view; remembers what it has computed. */
export class Inks {
  readonly #known = new Map<string, string>();
  readonly #rarities = new Map<number, (points: number) => number>();

  constructor(
    readonly ground: colour.Ground,
    readonly settings: Pick<Address, "hue" | "palette" | "rarity" | "pins">,
    readonly allPoints: readonly number[],
  ) {}

  rarity(points: number, tokens: number): number {
    let of = this.#rarities.get(tokens);
    if (!of) this.#rarities.set(tokens, (of = colour.rarities(this.settings.rarity, tokens, this.allPoints)));
    return of(points);
  }

  /** `points` of `tokens` say how rare it is; `slot` is null for a feature that the run has never seen. */
  of(layer: number, id: number, slot: number | null, points: number, tokens: number): string {
    const { hue, palette, pins } = this.settings;
    const key = `${layer} ${id} ${slot} ${points} ${tokens}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const place = pins.findIndex((pin) => pin.layer === layer && pin.id === id);
    const rarity = this.rarity(points, tokens);
    let rgb: colour.Rgb;
    if (hue === "pins") rgb = place >= 0 ? colour.pin(this.ground, place) : colour.grey(this.ground, rarity);
    else if (hue === "id") rgb = colour.feature(this.ground, palette, colour.hueOfId(layer, id), rarity);
    else rgb = slot === null ? colour.grey(this.ground, rarity) : colour.feature(this.ground, palette, colour.hueOfSlot(slot), rarity);
    const hex = colour.hex(rgb);
    this.#known.set(key, hex);
    return hex;
  }

  /** The colour that a feature would have, were it this rare. */
  shade(layer: number, id: number, slot: number | null, rarity: number): string {
    const { hue, palette } = this.settings;
    if (hue === "pins" || (hue === "slot" && slot === null)) return colour.hex(colour.grey(this.ground, rarity));
    const of = hue === "id" ? colour.hueOfId(layer, id) : colour.hueOfSlot(slot ?? 0);
    return colour.hex(colour.feature(this.ground, palette, of, rarity));
  }

  /** What a rarity looks like, for the legend. */
  sample(rarity: number): string {
    return colour.hex(colour.feature(this.ground, this.settings.palette, colour.hueOfSlot(0), rarity));
  }

  amount(share: number): string {
    return colour.hex(colour.ramp(this.ground, colour.NEUTRAL_TURN, share));
  }
}
