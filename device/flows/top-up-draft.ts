import type { CoinServiceError } from '../../coin-client/coin-service-error';
import { type CoinCategoryName, perCategory } from '../contract/coin-category';
import type { CoinName } from '../contract/inventory';
import type { ContactAddress, DeviceMissing, DiscardedCoin, PendingRequest } from '../contract/pending-requests';
import type { FetchReport } from './fetch-reserved';

/** The result of topping up one device of a contact, or all of them together. */
export interface DeviceTopUp {
  /** UUID in lower case. Absent for the unnamed device. */
  readonly deviceId?: string;
  /** The coins that this call put on disk. */
  readonly stored: CoinName[];
  /** The fetched coins that could not be kept, each with the reason. */
  readonly discarded: DiscardedCoin[];
  /** The number of coins that the budget still lacks, for any reason. */
  readonly missing: Record<CoinCategoryName, number>;
}

/** The result of topping up one contact: the sums over its devices, and each of them. */
export interface ContactTopUp extends Omit<DeviceTopUp, 'deviceId'> {
  readonly contactId: string;
  /**
   * The devices that the contact has, in the order of their ids, the unnamed one first. None: the contact never
   * published a coin, so that nothing can be sent.
   */
  readonly devices: DeviceTopUp[];
  /** The cached coins that this call forgot, because the contact has their device no longer. */
  readonly removed: CoinName[];
  /** The first failure, if any. */
  readonly error?: CoinServiceError;
}

interface Outcome {
  readonly deviceId: string | undefined;
  readonly stored: CoinName[];
  readonly discarded: DiscardedCoin[];
}

interface Draft {
  readonly outcomes: Outcome[];
  readonly removed: CoinName[];
  error?: CoinServiceError;
}

/** Collects what a topUp does for each contact. */
export class TopUpDraft implements FetchReport {
  readonly #drafts: ReadonlyMap<string, Draft>;

  constructor(contacts: readonly ContactAddress[]) {
    this.#drafts = new Map(contacts.map(({ contactId }) => [contactId, { outcomes: [], removed: [] }]));
  }

  add(
    { contactId, deviceId }: PendingRequest,
    { stored = [], discarded = [] }: Partial<Pick<Outcome, 'stored' | 'discarded'>>,
  ): void {
    this.#drafts.get(contactId)?.outcomes.push({ deviceId, stored, discarded });
  }

  addRemoved({ contactId }: ContactAddress, removed: readonly CoinName[]): void {
    this.#drafts.get(contactId)?.removed.push(...removed);
  }

  fail({ contactId }: ContactAddress, error: CoinServiceError): void {
    const draft = this.#drafts.get(contactId);
    if (draft !== undefined) draft.error ??= error;
  }

  failAll(error: CoinServiceError): void {
    for (const draft of this.#drafts.values()) draft.error ??= error;
  }

  /** Returns the report, given what the budgets still lack. */
  finish(shortages: ReadonlyMap<string, readonly DeviceMissing[]>): ContactTopUp[] {
    return [...this.#drafts].map(([contactId, { outcomes, ...rest }]) => {
      const devices = shortages.get(contactId) ?? [];
      return {
        contactId,
        ...join(outcomes),
        missing: perCategory((name) => devices.reduce((sum, { missing }) => sum + missing[name], 0)),
        devices: devices.map((shortage) => ({
          ...shortage,
          ...join(outcomes.filter(({ deviceId }) => deviceId === shortage.deviceId)),
        })),
        ...rest,
      };
    });
  }
}

function join(outcomes: readonly Outcome[]) {
  return {
    stored: outcomes.flatMap(({ stored }) => stored),
    discarded: outcomes.flatMap(({ discarded }) => discarded),
  };
}
