// A stand-in for the Context Manager module.
import type { CoinCategoryName } from '../gen/aqm/coin/v1/coin_categories';

/** The state of the phone when a message is about to be sent. */
export interface Situation {
  readonly link: 'Wi-Fi' | 'cellular';
  /** 0 (empty) to 1 (full). */
  readonly battery: number;
}

/** The recommended category, and the reason in words. */
export interface Advice {
  readonly coinCategory: CoinCategoryName;
  readonly because: string;
}

/** Recommends a category. A low battery takes precedence over the type of link. */
export function adviseTier({ link, battery }: Situation): Advice {
  if (battery < 0.15) return { coinCategory: 'BRONZE', because: 'the battery is nearly empty and every byte counts' };
  if (link === 'cellular') return { coinCategory: 'SILVER', because: 'it is post-quantum like GOLD, but smaller' };
  return { coinCategory: 'GOLD', because: 'it is the strongest and nothing has to be saved' };
}
