import fc from 'fast-check';
import { DAY, HOUR } from '../../conformance/harness';
import type { CoinCategoryName } from '../../contract/coin-category';
import { type Call, call, clockJump, timeStep } from './steps';

/** Calls that are made at the same time, each on one of the handles. */
export interface Batch {
  /** The milliseconds by which time passes before the calls. The coin service confirms the clock then. */
  readonly after: number;
  /** The milliseconds by which the clock is wrong during the calls. Default: 0. */
  readonly jump?: number;
  readonly calls: readonly { readonly handle: number; readonly call: Call }[];
}

/** The size of a sequence. */
export interface Shape {
  /** The maximum number of commands. */
  readonly commands: number;
  readonly handles: number;
  /** The maximum number of calls at the same time. With 1, only one order of the calls can explain their answers. */
  readonly atOnce: number;
  /** True to back up, restore and lose the storages between the calls. */
  readonly incidents: boolean;
}

/** The calls that are one atomic step, so that one order of calls at the same time explains their answers. */
const atomicCall = call.filter((call) => !('inventory' in call && call.inventory === 'dropCachedCoins'));

/** Generates what one command of a sequence does: one batch, or several that prepare and make a race. */
export function batchesOf({ handles, atOnce }: Pick<Shape, 'handles' | 'atOnce'>): fc.Arbitrary<readonly Batch[]> {
  const some = atOnce === 1 ? call : atomicCall;
  const any = fc.array(fc.record({ handle: fc.nat(handles - 1), call: some }), {
    minLength: 1,
    maxLength: atOnce,
    size: 'max',
  });
  const same = some.map((call) => fromEveryHandle(handles, () => call));
  const calls = atOnce === 1 ? any : fc.oneof({ weight: 2, arbitrary: any }, { weight: 1, arbitrary: same });
  const batch: fc.Arbitrary<readonly Batch[]> = fc
    .record({ after: timeStep, jump: clockJump, calls })
    .map((batch) => [batch]);
  return atOnce === 1 ? batch : fc.oneof({ weight: 2, arbitrary: batch }, { weight: 1, arbitrary: race(handles) });
}

/** Ids that other calls of a sequence rarely use, so that the preparation of a race succeeds. */
const fresh = fc.integer({ min: 0x10, max: 0xff });
const CONTACT = 'bob';
const PHONE = 0xd1;

/**
 * Prepares something that only one of several callers may get, and then requests it from every handle at the same
 * time. A step of the library that is not atomic gives it to two of them.
 */
function race(handles: number): fc.Arbitrary<Batch[]> {
  const everyHandle = (call: (handle: number) => Call): Batch => ({ after: 0, calls: fromEveryHandle(handles, call) });
  const ids = fc.uniqueArray(fresh, { minLength: 2 * handles, maxLength: 2 * handles, size: 'max' });
  const category = fc.constantFrom<CoinCategoryName>('GOLD', 'SILVER', 'BRONZE');
  const coin = (id: number, category: CoinCategoryName, life = 23 * DAY, device: number | null = null): Call => {
    return { inventory: 'storeKey', contact: CONTACT, device, id, upperCase: false, category, life, copy: 0 };
  };
  const key = (id: number, copy = 0, life: number | null = null): Call => {
    return { vault: 'storeKey', id, upperCase: false, category: 'GOLD', life, copy };
  };
  const BESTIE: Call = { inventory: 'setPriority', contact: CONTACT, priority: 'BESTIE' };
  const MATE: Call = { inventory: 'setPriority', contact: CONTACT, priority: 'MATE' };
  const STRANGER: Call = { inventory: 'setPriority', contact: CONTACT, priority: 'STRANGER' };
  const SELECT: Call = { inventory: 'selectCoin', contact: CONTACT, device: null, category: 'GOLD' };
  const SELECT_ALL: Call = { inventory: 'selectCoins', contact: CONTACT, category: 'GOLD' };
  const ofPhone = (id: number): Call => coin(id, 'GOLD', 23 * DAY, PHONE);
  const WITHOUT_PHONE: Call = { requests: 'learnDevices', contact: CONTACT, devices: [null] };
  const SUMMARY: Call = { inventory: 'getSummary', contact: CONTACT };
  // Everything is evicted, and then there is room for just one.
  const roomForOne = [alone(STRANGER), alone(MATE)];
  const stocked = (ids: readonly number[], coins: number) => [
    alone(BESTIE),
    ...ids.slice(0, coins).map((id) => alone(coin(id, 'GOLD'))),
  ];
  return fc.oneof(
    // The last coins.
    fc
      .record({ ids, coins: fc.constantFrom(1, 2), category })
      .map(({ ids, coins, category }) => [
        alone(BESTIE),
        ...ids.slice(0, coins).map((id) => alone(coin(id, category))),
        everyHandle(() => SELECT),
      ]),
    // The last coins of two devices, for one caller each or for a caller who wants both.
    fc
      .record({ ids, coins: fc.constantFrom(1, 2), calls: fc.array(fc.constantFrom(SELECT, SELECT_ALL, SUMMARY)) })
      .map(({ ids, coins, calls }) => [
        alone(BESTIE),
        ...ids.slice(0, coins).flatMap((id) => [alone(coin(id, 'GOLD')), alone(ofPhone(id + 0x100))]),
        everyHandle((handle) => (handle === 0 ? SELECT_ALL : (calls[handle] ?? SELECT_ALL))),
      ]),
    // A device that is gone while others store for it and select from it.
    fc
      .record({ ids, calls: fc.array(fc.constantFrom(SELECT_ALL, SUMMARY, WITHOUT_PHONE, STRANGER), { minLength: 4 }) })
      .map(({ ids, calls }) => [
        alone(BESTIE),
        ...ids.slice(0, 2).map((id) => alone(ofPhone(id))),
        everyHandle((handle) =>
          handle === 0 ? WITHOUT_PHONE : (calls[handle] ?? ofPhone(ids[handles + handle] ?? 0)),
        ),
      ]),
    // The last room of two devices.
    ids.map((ids) => [
      ...roomForOne,
      everyHandle((handle) => (isEven(handle) ? coin(ids[handle] ?? 0, 'GOLD') : ofPhone(ids[handle] ?? 0))),
    ]),
    // The last room.
    ids.map((ids) => [...roomForOne, everyHandle((handle) => coin(ids[handle] ?? 0, 'GOLD'))]),
    // One coin that is stored by all.
    ids.map(([id = 0]) => [alone(BESTIE), everyHandle(() => coin(id, 'GOLD'))]),
    // A coin that is used while others store it again.
    ids.map(([id = 0]) => [...stocked([id], 1), everyHandle((handle) => (isEven(handle) ? SELECT : coin(id, 'GOLD')))]),
    // Coins that are evicted while others select, store and read.
    fc
      .record({ ids, calls: fc.array(fc.constantFrom(STRANGER, MATE, SELECT, SUMMARY, BESTIE), { minLength: 4 }) })
      .map(({ ids, calls }) => [
        ...stocked(ids, 3),
        everyHandle((handle) =>
          handle === 0 ? STRANGER : (calls[handle] ?? coin(ids[handles + handle] ?? 0, 'GOLD')),
        ),
      ]),
    ids.map((ids) => [...stocked(ids, 3), everyHandle(() => STRANGER)]),
    ids.map((ids) => [...stocked(ids, 3), everyHandle((handle) => (isEven(handle) ? STRANGER : BESTIE))]),
    // A priority that falls while others read it repeatedly: only then is a state between two steps seen.
    {
      weight: 3,
      arbitrary: fc.record({ ids, falling: fc.nat(handles - 1) }).map(({ ids, falling }) => {
        const readers = everyHandle(() => SUMMARY).calls.filter(({ handle }) => handle !== falling);
        const calls = [{ handle: falling, call: STRANGER }, ...Array.from({ length: 6 }, () => readers).flat()];
        return [...stocked(ids, 3), { after: 0, calls }];
      }),
    },
    // A contact that is forgotten while others select from it and store for it.
    ids.map((ids) => [
      ...stocked(ids, 2),
      everyHandle((handle) =>
        handle === 0
          ? { inventory: 'forgetContact', contact: CONTACT }
          : isEven(handle)
            ? SELECT
            : coin(ids[handles + handle] ?? 0, 'GOLD'),
      ),
    ]),
    // A budget that falls while others fill it.
    ids.map((ids) => [
      ...stocked(ids, 1),
      everyHandle((handle) => (handle === 0 ? MATE : coin(ids[handles + handle] ?? 0, 'GOLD'))),
    ]),
    // One key: burned, stored under two key pairs, purged.
    ids.map(([id = 0]) => [alone(key(id)), everyHandle(() => ({ vault: 'burnKey', id, upperCase: false }))]),
    ids.map(([id = 0]) => [everyHandle((handle) => key(id, handle % 2))]),
    ids.map(([id = 0]) => [
      alone(key(id)),
      everyHandle((handle) => (isEven(handle) ? { vault: 'burnKey', id, upperCase: false } : key(id, 1))),
    ]),
    ids.map(([first = 0, second = 0]) => [
      alone(key(first, 0, HOUR)),
      alone(key(second, 0, HOUR)),
      {
        ...everyHandle((handle) =>
          handle === 0
            ? { vault: 'burnKey', id: first, upperCase: false }
            : { vault: 'purgeExpired', days: null, evenIfOwed: false },
        ),
        after: HOUR,
      },
    ]),
    // Coins of an inactive contact that is removed.
    ids.map((ids) => [
      ...stocked(ids, 2),
      {
        ...everyHandle((handle) => (handle === 0 ? SELECT : { inventory: 'garbageCollect', days: 1 })),
        after: 2 * DAY,
      },
    ]),
  );
}

function isEven(number: number): boolean {
  return number % 2 === 0;
}

function alone(call: Call): Batch {
  return { after: 0, calls: [{ handle: 0, call }] };
}

function fromEveryHandle(handles: number, call: (handle: number) => Call): Batch['calls'] {
  return Array.from({ length: handles }, (_, handle) => ({ handle, call: call(handle) }));
}
