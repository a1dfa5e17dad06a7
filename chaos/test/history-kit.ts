import type { Promised } from '../service/checker/breach';
import { check } from '../service/checker/check';
import type { Call, DeviceAnswer, Fault, FetchCall, FetchItem, FinalTables, KeyFetch, Rules } from '../service/history';

/** Small handwritten histories: coins have short names, times are whole milliseconds. */
export const GOLD = 1;
export const SILVER = 2;
export const BRONZE = 3;

export const RULES: Rules = { graceMs: 10_000, lockTimeoutMs: 1000, zombieMs: 2000, settleMs: 1000, skewMs: 0 };

type Span = readonly [start: number, end: number];
type Failed = 'failed';

export class Story {
  readonly calls: Call[] = [];
  readonly faults: Fault[] = [];
  readonly #keyFetches: KeyFetch[] = [];
  readonly #stock = new Map<string, FinalTables['coins'][number]>();
  /** The device that uploaded each coin. */
  readonly #owners = new Map<string, string>();
  readonly #devices = new Map<string, FinalTables['devices'][number]>();
  readonly #fetches: FinalTables['fetches'][number][] = [];
  readAt = 100_000;
  #server = 0;
  #key: number | undefined;
  #device = '';

  /** The service of the calls that follow. */
  at(server: number): this {
    this.#server = server;
    return this;
  }

  /** The key of the tokens of the calls that follow. */
  withKey(key: number): this {
    this.#key = key;
    return this;
  }

  /** The device of bob of the calls that follow. */
  of(deviceId: string): this {
    this.#device = deviceId;
    return this;
  }

  /** A service fetches the token keys. */
  fetchesKeys(at: number, newestKey: number): this {
    this.#keyFetches.push({ server: this.#server, newestKey, at });
    return this;
  }

  upload(
    span: Span,
    coins: string[],
    outcomes: string[] | Failed = coins.map(() => 'INSERTED'),
    category = GOLD,
    handOutEnd?: number,
    reason?: string,
  ): this {
    const [start, end] = span;
    const facts = {
      ...this.#facts(start, end, outcomes === 'failed', reason),
      kind: 'upload' as const,
      ...this.#acting,
    };
    const given = coins.map((keyId) => ({ keyId, category, ...(handOutEnd === undefined ? {} : { handOutEnd }) }));
    this.calls.push({ ...facts, coins: given, ...(outcomes === 'failed' ? {} : { outcomes }) });
    if (outcomes !== 'failed') this.#devices.set(this.#device, { ...this.#acting, isRemoved: false });
    coins.forEach((keyId, index) => {
      if (!this.#owners.has(keyId)) this.#owners.set(keyId, this.#device);
      if (outcomes !== 'failed' && outcomes[index] === 'INSERTED') this.atEnd(keyId, 'in stock');
    });
    return this;
  }

  /** A prefix of a coin is its category: `s:silver-coin`, `b:bronze-coin`. */
  fetch(span: Span, request: Partial<FetchItem>, coins: string[] | Failed, by = 'alice', reason?: string): this {
    const [start, end] = span;
    const failed = coins === 'failed';
    const item: FetchItem = {
      targetUserId: 'bob',
      deviceId: this.#device,
      category: GOLD,
      count: 1,
      allowLower: false,
      requestId: `r${this.calls.length}`,
      ...request,
      ...(failed ? {} : { coins: coins.map((coin) => this.#coin(coin)) }),
    };
    const call: FetchCall = {
      ...this.#facts(start, end, failed, reason),
      kind: 'fetch',
      requesterId: by,
      items: [item],
    };
    return this.#fetched(call);
  }

  /** A fetch for several devices. The answer is the coins by device. */
  fanOut(span: Span, request: Partial<FetchItem>, answer: Record<string, string[]> | Failed, by = 'alice'): this {
    const [start, end] = span;
    const devices: DeviceAnswer[] = Object.entries(answer === 'failed' ? {} : answer).map(([deviceId, coins]) => ({
      deviceId,
      coins: coins.map((coin) => this.#coin(coin)),
    }));
    const item: FetchItem = {
      targetUserId: 'bob',
      deviceId: '',
      askedDeviceIds: [],
      category: GOLD,
      count: 1,
      allowLower: false,
      requestId: `r${this.calls.length}`,
      ...request,
      ...(answer === 'failed' ? {} : { devices, coins: devices.flatMap(({ coins }) => coins) }),
    };
    return this.#fetched({
      ...this.#facts(start, end, answer === 'failed'),
      kind: 'fetch',
      requesterId: by,
      items: [item],
    });
  }

  #fetched(call: FetchCall): this {
    this.calls.push(call);
    for (const { coins = [] } of call.items) for (const { keyId } of coins) this.atEnd(keyId, 'spent');
    return this;
  }

  count(span: Span, gold: number): this {
    this.calls.push({ ...this.#facts(...span, false), kind: 'count', ...this.#acting, available: { [GOLD]: gold } });
    return this;
  }

  list(span: Span, deviceIds: string[]): this {
    const devices = deviceIds.map((deviceId) => ({ deviceId, available: {} }));
    this.calls.push({ ...this.#facts(...span, false), kind: 'list', userId: 'bob', devices });
    return this;
  }

  retire(span: Span, retiredCount: number): this {
    const facts = this.#facts(...span, false);
    this.calls.push({ ...facts, kind: 'retire', ...this.#acting, category: GOLD, retiredCount });
    return this;
  }

  remove(span: Span, retiredCount: number | Failed): this {
    const facts = this.#facts(...span, retiredCount === 'failed');
    const answer = retiredCount === 'failed' ? {} : { retiredCount };
    this.calls.push({ ...facts, kind: 'remove', ...this.#acting, ...answer });
    if (retiredCount !== 'failed') this.#devices.set(this.#device, { ...this.#acting, isRemoved: true });
    return this;
  }

  fault(span: Span, server?: number, kind = 'test'): this {
    this.faults.push({ kind, start: span[0], end: span[1], ...(server === undefined ? {} : { server }) });
    return this;
  }

  /** Replaces the final tables that follow from the answers. */
  atEnd(keyId: string, state: 'in stock' | 'spent' | 'hard-deleted' | 'gone'): this {
    const deviceId = this.#owners.get(keyId) ?? '';
    const row = { userId: 'bob', keyId, deviceId, inStock: state === 'in stock', isBlank: state === 'hard-deleted' };
    if (state === 'gone') this.#stock.delete(keyId);
    else this.#stock.set(keyId, row);
    return this;
  }

  /** Replaces the row of the device of the calls that follow. */
  deviceAtEnd(isRemoved: boolean): this {
    this.#devices.set(this.#device, { ...this.#acting, isRemoved });
    return this;
  }

  remembered(requestId: string, keyIds: string[], requesterId = 'alice', deviceIds?: string[]): this {
    this.#fetches.push({ userId: 'bob', requesterId, requestId, keyIds, ...(deviceIds ? { deviceIds } : {}) });
    return this;
  }

  get final(): FinalTables {
    return {
      readAt: this.readAt,
      coins: [...this.#stock.values()],
      fetches: this.#fetches,
      devices: [...this.#devices.values()],
    };
  }

  /** Returns the promises that the history breaks, in the order of the table. */
  broken(): Promised[] {
    const { findings } = check(
      { calls: this.calls, faults: this.faults, keyFetches: this.#keyFetches },
      this.final,
      RULES,
    );
    return findings.filter((finding) => finding.breaches.length > 0).map((finding) => finding.promise);
  }

  #facts(start: number, end: number, failed: boolean, reason = 'DATABASE_UNAVAILABLE') {
    const failure = { code: 'UNAVAILABLE', reason };
    return {
      call: this.calls.length,
      client: 'test',
      server: this.#server,
      start,
      end,
      ...(failed ? { failure } : {}),
      ...(this.#key === undefined ? {} : { key: this.#key }),
    };
  }

  get #acting() {
    return { userId: 'bob', deviceId: this.#device };
  }

  #coin(text: string) {
    const [prefix, rest] = text.split(':');
    const keyId = rest ?? text;
    const category = rest === undefined ? GOLD : prefix === 's' ? SILVER : BRONZE;
    return { keyId, category, deviceId: this.#owners.get(keyId) ?? '' };
  }
}
