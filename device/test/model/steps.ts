import fc from 'fast-check';
import { bytes, DAY, HOUR, keyId, MINUTE, NO_COINS, publicHalf, SECOND } from '../../conformance/harness';
import type { BudgetTable, ContactPriority } from '../../contract/budget';
import type { CoinCategoryName } from '../../contract/coin-category';
import type { DeviceStorage } from '../../contract/device-storage';
import { ClockError, InvalidArgumentError, WrongOwnerError } from '../../errors';
import type { ModelledRequests } from './model';

/** A storage, or its model. */
export type Target = Pick<DeviceStorage, 'vault' | 'inventory' | 'owner'> & {
  readonly pendingRequests: ModelledRequests;
};

/**
 * The budgets of all sequences. They are small, so that they are often full, and fall step by step, so that an eviction
 * takes some of a category's coins and leaves others. A stranger may have a coin, so that there are contacts without a
 * priority.
 */
export const MODEL_BUDGETS: BudgetTable = {
  BESTIE: { ...NO_COINS, GOLD: 3, SILVER: 2, BRONZE: 1 },
  MATE: { ...NO_COINS, GOLD: 1, SILVER: 1, BRONZE: 2 },
  STRANGER: { ...NO_COINS, BRONZE: 1 },
};

/**
 * The ids are few, so that they collide, are stored again, and are used by several contacts. Their text has letters.
 */
const IDS = [0xa, 0xb, 0xc, 0xd, 0xe] as const;
const CONTACTS = ['Bob', 'bob', 'zoë'] as const;
/** The devices of every contact. Null is the unnamed one. */
const DEVICES = [null, 0xd1, 0xd2] as const;
const CATEGORIES = ['GOLD', 'SILVER', 'BRONZE'] as const;
const PRIORITIES = ['BESTIE', 'MATE', 'STRANGER'] as const;
/** Time steps and lives of coins come from one list, so that steps end exactly at, before and after an expiry. */
const SPANS = [1, 5 * SECOND - 1, 5 * SECOND, HOUR, DAY, 7 * DAY, 23 * DAY, 30 * DAY] as const;
const DAYS = [0, 1, 7, 29, 30, 31] as const;

/** A call as plain data, which is printed when it fails. */
export type Call =
  | { vault: 'storeKey'; id: number; upperCase: boolean; category: CoinCategoryName; life: number | null; copy: number }
  | { vault: 'fetchKey' | 'burnKey' | 'getStatus'; id: number; upperCase: boolean }
  | { vault: 'countActive'; category: CoinCategoryName }
  | { vault: 'listKeyIds'; category: CoinCategoryName | null }
  | { vault: 'purgeExpired'; days: number | null; evenIfOwed: boolean }
  | {
      inventory: 'storeKey';
      contact: string;
      device: number | null;
      id: number;
      upperCase: boolean;
      category: CoinCategoryName;
      life: number;
      copy: number;
    }
  | { inventory: 'selectCoin'; contact: string; device: number | null; category: CoinCategoryName }
  | { inventory: 'selectCoins'; contact: string; category: CoinCategoryName }
  | { requests: 'learnDevices'; contact: string; devices: readonly (number | null)[] }
  | { requests: 'missingCoins'; contact: string }
  | { inventory: 'setPriority'; contact: string; priority: ContactPriority }
  | { inventory: 'getPriority' | 'forgetContact'; contact: string }
  | { inventory: 'getSummary'; contact: string | null }
  | { inventory: 'listContacts' | 'getTotalStorageBytes' | 'dropCachedCoins' }
  | { inventory: 'garbageCollect'; days: number | null }
  | { owner: 'bind' | 'check'; user: number; upperCase: boolean; device: number | null }
  | { owner: 'read' | 'recordRemoval' };

const id = fc.constantFrom(...IDS);
const upperCase = fc.constantFrom(false, false, false, true);
const category = fc.constantFrom('GOLD', 'GOLD', ...CATEGORIES);
/** Mostly the same contact, whose stock then fills and is emptied. */
const contact = fc.oneof(
  { weight: 2, arbitrary: fc.constant('bob') },
  { weight: 1, arbitrary: fc.constantFrom(...CONTACTS) },
);
const device = fc.oneof(
  { weight: 1, arbitrary: fc.constant(null) },
  { weight: 1, arbitrary: fc.constantFrom(...DEVICES) },
);
/** There are two key pairs for each id: the second must not replace the first. */
const copy = fc.constantFrom(0, 1);
const life = fc.constantFrom(...SPANS, 2 * DAY, 0);
const vaultLife = fc.constantFrom(...SPANS, null, 30 * DAY + 5 * MINUTE, 30 * DAY + 5 * MINUTE + 1);
const days = fc.constantFrom(...DAYS, null);

const vaultCall: fc.Arbitrary<Call> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ vault: fc.constant('storeKey'), id, upperCase, category, life: vaultLife, copy }),
  },
  { weight: 2, arbitrary: fc.record({ vault: fc.constant('fetchKey'), id, upperCase }) },
  { weight: 3, arbitrary: fc.record({ vault: fc.constant('burnKey'), id, upperCase }) },
  { weight: 2, arbitrary: fc.record({ vault: fc.constant('getStatus'), id, upperCase }) },
  { weight: 1, arbitrary: fc.record({ vault: fc.constant('countActive'), category }) },
  { weight: 1, arbitrary: fc.record({ vault: fc.constant('listKeyIds'), category: fc.option(category) }) },
  { weight: 1, arbitrary: fc.record({ vault: fc.constant('purgeExpired'), days, evenIfOwed: fc.boolean() }) },
);

const inventoryCall: fc.Arbitrary<Call> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({ inventory: fc.constant('storeKey'), contact, device, id, upperCase, category, life, copy }),
  },
  { weight: 4, arbitrary: fc.record({ inventory: fc.constant('selectCoin'), contact, device, category }) },
  { weight: 2, arbitrary: fc.record({ inventory: fc.constant('selectCoins'), contact, category }) },
  {
    weight: 2,
    arbitrary: fc.record({
      requests: fc.constant('learnDevices'),
      contact,
      devices: fc.subarray([...DEVICES, ...DEVICES], { maxLength: 4 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ requests: fc.constant('missingCoins'), contact }) },
  {
    weight: 4,
    arbitrary: fc.record({
      inventory: fc.constant('setPriority'),
      contact,
      priority: fc.constantFrom('BESTIE', ...PRIORITIES),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ inventory: fc.constantFrom('getPriority', 'getPriority', 'forgetContact'), contact }),
  },
  { weight: 1, arbitrary: fc.record({ inventory: fc.constant('getSummary'), contact: fc.option(contact) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      inventory: fc.constantFrom('listContacts', 'getTotalStorageBytes', 'getTotalStorageBytes', 'dropCachedCoins'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ inventory: fc.constant('garbageCollect'), days }) },
);

/** Few owners, so that the storage is often used for its own and often for another one. */
const ownerCall: fc.Arbitrary<Call> = fc.oneof(
  fc.record({
    owner: fc.constantFrom('bind', 'check', 'check'),
    user: fc.constantFrom(0xb0b, 0xb0b, 0xe0e),
    upperCase,
    device: fc.constantFrom(null, null, 1, 2),
  }),
  fc.record({ owner: fc.constantFrom('read', 'read', 'recordRemoval') }),
);

export const call: fc.Arbitrary<Call> = fc.oneof(
  { weight: 6, arbitrary: vaultCall },
  { weight: 6, arbitrary: inventoryCall },
  { weight: 1, arbitrary: ownerCall },
);

/** From a second to ten years, and exactly at, before and after the day that every storage tolerates. */
const JUMPS = [
  SECOND,
  MINUTE,
  HOUR,
  12 * HOUR,
  DAY - 1,
  DAY,
  DAY + 1,
  2 * DAY,
  31 * DAY,
  365 * DAY,
  3650 * DAY,
] as const;

/** The milliseconds by which a device's clock is wrong. */
export const wrongClock: fc.Arbitrary<number> = fc
  .tuple(fc.constantFrom(...JUMPS), fc.constantFrom(-1, 1))
  .map(([jump, sign]) => sign * jump);

/** The milliseconds by which the device's clock is wrong during a batch, most often 0. */
export const clockJump: fc.Arbitrary<number> = fc.oneof(
  { weight: 4, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: wrongClock },
);

/** The milliseconds by which the clock moves, most often 0. */
export const timeStep: fc.Arbitrary<number> = fc.oneof(
  { weight: 7, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.constantFrom(...SPANS) },
);

/**
 * The outcome of a call: its value; or the field of the argument that was refused, and the message; or any other error,
 * which the model never has.
 */
export type Answer =
  | { readonly value: unknown }
  | { readonly refused: string; readonly message: string }
  | { readonly failed: string };

export async function answerOf(target: Target, call: Call, now: () => Date): Promise<Answer> {
  try {
    return { value: await issue(target, call, now().getTime()) };
  } catch (error) {
    if (error instanceof InvalidArgumentError) return { refused: error.field, message: error.message };
    if (error instanceof ClockError) return { refused: 'now', message: error.message };
    if (error instanceof WrongOwnerError) return { refused: 'owner', message: error.message };
    return { failed: String(error) };
  }
}

async function issue({ vault, inventory, pendingRequests, owner }: Target, call: Call, now: number): Promise<unknown> {
  if ('owner' in call) {
    if (!('user' in call)) return owner[call.owner]();
    const userId = textOf({ id: call.user, upperCase: call.upperCase });
    return owner[call.owner](call.device === null ? { userId } : { userId, deviceId: keyId(call.device) });
  }
  if ('vault' in call) {
    switch (call.vault) {
      case 'storeKey': {
        const expiresAt = call.life === null ? undefined : new Date(now + call.life);
        const { category: coinCategory, copy } = call;
        return vault.storeKey({ keyId: textOf(call), coinCategory, ...privateHalfOf(call.id, copy), expiresAt });
      }
      case 'fetchKey':
      case 'burnKey':
      case 'getStatus':
        return vault[call.vault](textOf(call));
      case 'countActive':
        return vault.countActive(call.category);
      case 'listKeyIds':
        return vault.listKeyIds(call.category ?? undefined);
      case 'purgeExpired':
        return vault.purgeExpired(call.days ?? undefined, { evenIfOwed: call.evenIfOwed });
    }
  }
  if ('requests' in call) {
    if (call.requests === 'missingCoins') {
      const missing = await pendingRequests.missingCoins([{ contactId: call.contact, userId: keyId(0xb0b) }]);
      return missing.get(call.contact);
    }
    const deviceIds = call.devices.map((device) => (device === null ? '' : keyId(device).toUpperCase()));
    const { removed } = await pendingRequests.learnDevices(call.contact, deviceIds);
    // Their order is not promised.
    return { removed: removed.sort((a, b) => (a.keyId < b.keyId ? -1 : 1)) };
  }
  switch (call.inventory) {
    case 'storeKey': {
      const { contact: contactId, category: coinCategory } = call;
      const half = publicHalfOf(call.id, coinCategory, call.copy);
      const expiresAt = new Date(now + call.life);
      return inventory.storeKey({ contactId, ...named(call), keyId: textOf(call), coinCategory, ...half, expiresAt });
    }
    case 'selectCoin':
      return inventory.selectCoin(call.contact, call.category, named(call));
    case 'selectCoins':
      return inventory.selectCoins(call.contact, call.category);
    case 'setPriority':
      return inventory.setPriority(call.contact, call.priority);
    case 'getPriority':
    case 'forgetContact':
      return inventory[call.inventory](call.contact);
    case 'getSummary':
      return inventory.getSummary(call.contact ?? undefined);
    case 'listContacts':
    case 'getTotalStorageBytes':
    case 'dropCachedCoins':
      return inventory[call.inventory]();
    case 'garbageCollect':
      return inventory.garbageCollect(call.days ?? undefined);
  }
}

/** The calls after a sequence, which read everything that a caller can see. The last ones take out every coin. */
export const AUDIT: readonly Call[] = [
  { vault: 'listKeyIds', category: null },
  ...CATEGORIES.map((category): Call => ({ vault: 'countActive', category })),
  ...IDS.map((id): Call => ({ vault: 'getStatus', id, upperCase: false })),
  ...IDS.map((id): Call => ({ vault: 'fetchKey', id, upperCase: false })),
  { inventory: 'getSummary', contact: null },
  { inventory: 'listContacts' },
  { inventory: 'getTotalStorageBytes' },
  { owner: 'read' },
  ...CONTACTS.flatMap((contact) =>
    Array.from({ length: 7 }, (): Call => ({ inventory: 'selectCoins', contact, category: 'GOLD' })),
  ),
];

function named({ device }: { readonly device: number | null }): { readonly deviceId?: string } {
  return device === null ? {} : { deviceId: keyId(device) };
}

function textOf({ id, upperCase }: { readonly id: number; readonly upperCase: boolean }): string {
  return upperCase ? keyId(id).toUpperCase() : keyId(id);
}

/** Key halves have thousands of bytes, and many calls use them, so each is made once. */
const halves = new Map<string, object>();

function once<Half extends object>(name: string, make: () => Half): Half {
  const half = halves.get(name) ?? make();
  halves.set(name, half);
  return half as Half;
}

function privateHalfOf(id: number, copy: number) {
  const seed = 1000 * copy + id;
  return once(`${id} ${copy}`, () => ({
    encryptedBlob: bytes(24, seed),
    encryptionIv: bytes(12, seed + 1),
    authTag: bytes(16, seed + 2),
  }));
}

function publicHalfOf(id: number, category: CoinCategoryName, copy: number) {
  return once(`${id} ${category} ${copy}`, () => publicHalf(1000 * copy + id, category));
}
