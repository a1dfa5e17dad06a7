import type { Promised } from '../service/checker/breach';
import { check } from '../service/checker/check';
import type { Call, Fault, FetchCall, FetchItem, FinalTables, KeyFetch, Rules } from '../service/history';

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
  readonly #stock = new Map<string, { userId: string; keyId: string; inStock: boolean }>();
  readonly #fetches: FinalTables['fetches'][number][] = [];
  readAt = 100_000;
  #server = 0;
  #key: number | undefined;

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
  ): this {
    const [start, end] = span;
    const facts = { ...this.#facts(start, end, outcomes === 'failed'), kind: 'upload' as const, userId: 'bob' };
    const given = coins.map((keyId) => ({ keyId, category, ...(handOutEnd === undefined ? {} : { handOutEnd }) }));
    this.calls.push({ ...facts, coins: given, ...(outcomes === 'failed' ? {} : { outcomes }) });
    coins.forEach((keyId, index) => {
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
      category: GOLD,
      count: 1,
      allowLower: false,
      requestId: `r${this.calls.length}`,
      ...request,
      ...(failed ? {} : { coins: coins.map(toCoin) }),
    };
    const call: FetchCall = {
      ...this.#facts(start, end, failed, reason),
      kind: 'fetch',
      requesterId: by,
      items: [item],
    };
    this.calls.push(call);
    if (!failed) for (const coin of coins.map(toCoin)) this.atEnd(coin.keyId, 'spent');
    return this;
  }

  retire(span: Span, retiredCount: number): this {
    this.calls.push({ ...this.#facts(...span, false), kind: 'retire', userId: 'bob', category: GOLD, retiredCount });
    return this;
  }

  fault(span: Span, server?: number, kind = 'test'): this {
    this.faults.push({ kind, start: span[0], end: span[1], ...(server === undefined ? {} : { server }) });
    return this;
  }

  /** Replaces the final tables that follow from the answers. */
  atEnd(keyId: string, state: 'in stock' | 'spent' | 'gone'): this {
    if (state === 'gone') this.#stock.delete(keyId);
    else this.#stock.set(keyId, { userId: 'bob', keyId, inStock: state === 'in stock' });
    return this;
  }

  remembered(requestId: string, keyIds: string[], requesterId = 'alice'): this {
    this.#fetches.push({ userId: 'bob', requesterId, requestId, keyIds });
    return this;
  }

  get final(): FinalTables {
    return { readAt: this.readAt, coins: [...this.#stock.values()], fetches: this.#fetches };
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
}

function toCoin(text: string) {
  const [prefix, rest] = text.split(':');
  if (rest === undefined) return { keyId: text, category: GOLD };
  return { keyId: rest, category: prefix === 's' ? SILVER : BRONZE };
}
