import type { Call, DeviceAnswer, FetchCall, FetchedCoin, FetchItem, FinalTables, History } from '../service/history';
import { BRONZE, GOLD, SILVER } from './history-kit';

/** One step of a correct sequential service. Its call begins before it and ends after it. */
export type Step = { readonly before: number; readonly after: number; readonly answered: boolean } & (
  | { readonly kind: 'upload'; readonly device: string; readonly category: number; readonly coins: number }
  | {
      readonly kind: 'fetch';
      readonly device: string;
      readonly category: number;
      readonly count: number;
      readonly allowLower: boolean;
    }
  | {
      readonly kind: 'fan-out';
      readonly asked: readonly string[];
      readonly category: number;
      readonly count: number;
      readonly allowLower: boolean;
    }
  | { readonly kind: 'repeat'; readonly which: number }
  | { readonly kind: 'upload again'; readonly which: number; readonly device: string }
  | { readonly kind: 'count'; readonly device: string }
  | { readonly kind: 'list' }
  | { readonly kind: 'retire'; readonly device: string; readonly category: number; readonly kept: number }
  | { readonly kind: 'remove'; readonly device: string }
);

/** The time from one step to the next, in milliseconds. */
export const PACE = 10;
/** The devices of the owner. */
export const DEVICES = ['', 'laptop', 'phone'] as const;
const CATEGORIES = [GOLD, SILVER, BRONZE];

/** The stock and the devices of one owner, bob. */
class Model {
  readonly uploaded: FetchedCoin[] = [];
  readonly spent = new Set<string>();
  readonly retired = new Set<string>();
  readonly devices = new Map<string, { isRemoved: boolean }>();

  inStock(deviceId: string, category: number): FetchedCoin[] {
    return this.uploaded.filter(
      (coin) => coin.deviceId === deviceId && coin.category === category && !this.spent.has(coin.keyId),
    );
  }

  isRemoved(deviceId: string): boolean {
    return this.devices.get(deviceId)?.isRemoved === true;
  }

  take({ category, count, allowLower }: FetchItem, deviceId: string): FetchedCoin[] {
    const categories = allowLower ? CATEGORIES.filter((one) => one >= category) : [category];
    const coins = categories.flatMap((one) => this.inStock(deviceId, one)).slice(0, count);
    for (const { keyId } of coins) this.spent.add(keyId);
    return coins;
  }

  retire(coins: readonly FetchedCoin[]): number {
    for (const { keyId } of coins) {
      this.spent.add(keyId);
      this.retired.add(keyId);
    }
    return coins.length;
  }

  listed(): string[] {
    return [...this.devices.keys()].filter((deviceId) => !this.isRemoved(deviceId)).sort();
  }

  counts(deviceId: string): Record<number, number> {
    return Object.fromEntries(CATEGORIES.map((category) => [category, this.inStock(deviceId, category).length]));
  }
}

/** Simulates the answers of a correct service and its final tables, for the coins of one owner and one requester. */
export function tell(steps: readonly Step[]): { history: History; final: FinalTables } {
  const model = new Model();
  const fetches: { readonly item: FetchItem; readonly answer: Answer }[] = [];
  const calls = steps.flatMap((step, index) => {
    const at = index * PACE;
    const facts = { call: index, client: 'model', server: 0, start: at - step.before, end: at + step.after };
    return callOf(step, facts, model, fetches) ?? [];
  });

  const remembered = new Map(
    fetches.filter(({ answer }) => answer.coins.length > 0).map((known) => [known.item.requestId, known.answer]),
  );
  const final: FinalTables = {
    readAt: steps.length * PACE + 1000,
    coins: model.uploaded.map(({ keyId, deviceId }) => ({
      userId: 'bob',
      keyId,
      deviceId,
      inStock: !model.spent.has(keyId),
      isBlank: model.retired.has(keyId),
    })),
    fetches: [...remembered].map(([requestId, { coins, devices }]) => ({
      userId: 'bob',
      requesterId: 'alice',
      requestId,
      keyIds: coins.map((coin) => coin.keyId),
      ...(devices ? { deviceIds: devices.map(({ deviceId }) => deviceId) } : {}),
    })),
    devices: [...model.devices].map(([deviceId, device]) => ({ userId: 'bob', deviceId, ...device })),
  };
  const outage = { kind: 'model', start: -1000, end: steps.length * PACE + 1000 };
  return { history: { calls, faults: [outage] }, final };
}

interface Answer {
  readonly coins: readonly FetchedCoin[];
  readonly devices?: readonly DeviceAnswer[];
}

type Facts = Pick<Call, 'call' | 'client' | 'server' | 'start' | 'end'>;

/** Takes one step. @returns its call; undefined if it cannot be taken */
function callOf(
  step: Step,
  at: Facts,
  model: Model,
  fetches: { readonly item: FetchItem; readonly answer: Answer }[],
): Call | undefined {
  const facts = { ...at, ...(step.answered ? {} : { failure: { code: 'UNAVAILABLE', reason: '' } }) };
  const answered = <T extends object>(answer: T): Partial<T> => (step.answered ? answer : {});
  const upload = (deviceId: string, coins: readonly FetchedCoin[], outcomes: string[]): Call => {
    const call = { ...facts, kind: 'upload' as const, userId: 'bob', deviceId, coins };
    if (!model.isRemoved(deviceId)) return { ...call, ...answered({ outcomes }) };
    return { ...call, failure: { code: 'FAILED_PRECONDITION', reason: 'DEVICE_REMOVED' } };
  };
  const fetch = (item: FetchItem, answer: Answer): FetchCall => {
    fetches.push({ item, answer });
    return { ...facts, kind: 'fetch', requesterId: 'alice', items: [{ ...item, ...answered(answer) }] };
  };
  switch (step.kind) {
    case 'upload': {
      const { device: deviceId, category } = step;
      const coins = Array.from({ length: step.coins }, (_, place) => ({
        keyId: `c${at.call}-${place}`,
        category,
        deviceId,
      }));
      if (!model.isRemoved(deviceId)) {
        model.uploaded.push(...coins);
        model.devices.set(deviceId, { isRemoved: false });
      }
      return upload(
        deviceId,
        coins,
        coins.map(() => 'INSERTED'),
      );
    }
    case 'upload again': {
      const coin = nth(model.uploaded, step.which);
      if (!coin) return undefined;
      // Half of them are uploaded by another device of the user.
      const deviceId = step.which % 2 === 0 ? coin.deviceId : step.device;
      const present = deviceId === coin.deviceId ? 'ALREADY_PRESENT' : 'CONFLICT';
      if (!model.isRemoved(deviceId)) model.devices.set(deviceId, { isRemoved: false });
      // No device knows the id of a coin before its own device uploads it.
      facts.start = Math.max(facts.start, at.call * PACE - 1);
      return upload(deviceId, [coin], [model.spent.has(coin.keyId) ? 'SPENT' : present]);
    }
    case 'fetch': {
      const { device: deviceId, category, count, allowLower } = step;
      const item = { targetUserId: 'bob', deviceId, category, count, allowLower, requestId: `r${at.call}` };
      return fetch(item, { coins: model.take(item, deviceId) });
    }
    case 'fan-out': {
      const { asked: askedDeviceIds, category, count, allowLower } = step;
      const requestId = `r${at.call}`;
      const item = { targetUserId: 'bob', deviceId: '', askedDeviceIds, category, count, allowLower, requestId };
      const devices = model
        .listed()
        .filter((deviceId) => askedDeviceIds.length === 0 || askedDeviceIds.includes(deviceId))
        .map((deviceId) => ({ deviceId, coins: model.take(item, deviceId) }));
      return fetch(item, { devices, coins: devices.flatMap(({ coins }) => coins) });
    }
    case 'repeat': {
      const known = nth(fetches, step.which);
      // An empty answer is not remembered: its repeat would be a new fetch.
      return known && known.answer.coins.length > 0 ? fetch(known.item, known.answer) : undefined;
    }
    case 'count': {
      const { device: deviceId } = step;
      return { ...facts, kind: 'count', userId: 'bob', deviceId, ...answered({ available: model.counts(deviceId) }) };
    }
    case 'list': {
      const devices = model.listed().map((deviceId) => ({ deviceId, available: model.counts(deviceId) }));
      return { ...facts, kind: 'list', userId: 'bob', ...answered({ devices }) };
    }
    case 'retire': {
      const { device: deviceId, category, kept } = step;
      const retiredCount = model.retire(model.inStock(deviceId, category).slice(kept));
      return { ...facts, kind: 'retire', userId: 'bob', deviceId, category, ...answered({ retiredCount }) };
    }
    case 'remove': {
      const { device: deviceId } = step;
      const retiredCount = model.retire(CATEGORIES.flatMap((category) => model.inStock(deviceId, category)));
      model.devices.set(deviceId, { isRemoved: true });
      return { ...facts, kind: 'remove', userId: 'bob', deviceId, ...answered({ retiredCount }) };
    }
  }
}

function nth<T>(all: readonly T[], index: number): T | undefined {
  return all[index % Math.max(all.length, 1)];
}
