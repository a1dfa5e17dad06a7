import type { CoinCategory } from '../../../../gen/aqm/coin/v1/coin';
import { UNNAMED_DEVICE, type UserDevice } from '../../coin';

/**
 * One fetch of a device's coins, in the form that the claim statements need. All ids are UUIDs in
 * lower case.
 */
export interface ClaimItem extends UserDevice {
  readonly requesterId: string;
  /** The caller's own id, or a random one where the caller sent none. */
  readonly requestId: string;
  /** True if the caller chose the id, so that a repeat of this fetch may exist elsewhere. */
  readonly isRepeatable: boolean;
  readonly coinCategory: CoinCategory;
  /** 1 to 20. */
  readonly count: number;
  readonly allowLowerCategories: boolean;
  /**
   * The categories to take from, in order of preference. Empty: answer only from an earlier fetch.
   */
  readonly categories: readonly CoinCategory[];
}

/**
 * The number of users whose coins one statement may hand out. `several` finds locked rows by ctid.
 * `one` is for tables that are distributed by user_id (docs/distributed.md): every step names the
 * one user_id, and rows are found by their key.
 */
export type Targets = 'one' | 'several';

/**
 * Returns the upload_order before which the user's device has no coin of the category, and will have
 * none (queue-starts.ts).
 */
export type StartOf = (userId: string, deviceId: string, category: CoinCategory) => bigint;

/**
 * Names the coins that a fetch takes from: those of one user's device. Two fetches can only meet over
 * the same coins if these names are equal.
 */
export function stockOf({ userId, deviceId }: UserDevice): string {
  // Without a new text for the unnamed device, whose fetches cost what they did before there were others.
  return deviceId === UNNAMED_DEVICE ? userId : `${userId} ${deviceId}`;
}
