import type { CompiledQuery } from 'kysely';
import { type Database, run } from '../../database/pool';
import { isLockTimeout } from '../../database/sqlstate';
import { BatchDelayEstimate } from '../../database/wait-estimate';
import type { Deadline } from '../../deadline';
import { CancelledError, DomainError } from '../../errors';
import { type Guard, UNVERIFIED } from '../../fence/guard';
import { LinkedList } from '../../linked-list';
import { measure } from '../../telemetry/metrics';
import { QueuedCall } from '../../telemetry/tracing';
import { acknowledge, answerAll, type FetchAnswer, type FirstRound, type Pending, settle, settleFast } from './answer';
import { type ClaimOptions, type ClaimRow, claim } from './claim-many';
import { claimManyFast, type Targets } from './claim-many-fast';
import { claimOne } from './claim-one';
import { claimOneFast, type FastClaimRow, toClaimRow } from './claim-one-fast';
import { QueuedFetch } from './queued-fetch';
import { splitBatch } from './split-batch';

/** What one statement may be asked for. */
export interface Most {
  readonly items: number;
  readonly targets: number;
  readonly coins: number;
}

/** How a lane works. */
export interface BatchQueueRules {
  readonly graceSeconds: number;
  readonly most: Most;
  /** A statement that takes longer is left behind, and the lane goes on beside it; in milliseconds. */
  readonly stallTimeoutMs: number;
}

/** Statements that may be left behind at the same time: then the database is slow, and not one of its answers lost. */
export const MAX_DETACHED = 4;

interface Statement {
  compile(db: Database): CompiledQuery<FastClaimRow | ClaimRow>;
  /** Gives the items their answers. @returns those that it has none for */
  settle(items: readonly Pending[], rows: readonly ClaimRow[]): Pending[];
}

/** Some of them and the statement that they are sent by. */
interface Attempt {
  /** Who is asked for; not known before there is a connection for it. */
  callers?: QueuedFetch[];
  readonly choose: () => QueuedFetch[];
  readonly statementFor: (items: readonly Pending[], options: ClaimOptions & { targets: Targets }) => Statement;
}

/**
 * Claims one after the other, each for all that came meanwhile. One whose answer is lost on the way, or that waits for the lock of
 * another process, is left behind, so that it hurts only those whom it serves. What a statement does not serve (repeats, items that are short
 * of coins or need their fallback, coins that others hold) leaves the lane, which never waits for coins, and goes on by the
 * statements that have the words for it.
 */
export class BatchQueue {
  readonly #db: Database;
  readonly #gate: Guard;
  readonly #rules: BatchQueueRules;
  readonly #queue = new LinkedList<QueuedFetch>();
  readonly #turns: BatchDelayEstimate;
  readonly #detached = new Set<Promise<void>>();
  #isBusy = false;

  constructor(db: Database, gate: Guard, rules: BatchQueueRules) {
    this.#db = db;
    this.#gate = gate;
    this.#rules = rules;
    this.#turns = new BatchDelayEstimate(rules.most.items, rules.stallTimeoutMs);
  }

  get waiting(): number {
    return this.#queue.size;
  }

  /** How long one more would wait for its statement, in milliseconds. */
  get expectedMs(): number {
    return this.#turns.expectedMs(this.#queue.size);
  }

  /** Waits for `go`, or until the caller gives up. @returns the answer. Rejects with why there is none. */
  add(item: Pending, deadline: Deadline): Promise<FetchAnswer> {
    return new Promise((answered, failed) => {
      new QueuedFetch(this.#queue, item, deadline, { answered, failed });
    });
  }

  /** Begins, if there is something to do and nothing under way. */
  go(): void {
    if (!this.#isBusy && this.#queue.size > 0) void this.#work();
  }

  async #work(): Promise<void> {
    this.#isBusy = true;
    while (this.#queue.size > 0) {
      this.#turns.begin();
      const waited = this.#queue.size;
      await this.#patiently(this.#claim(() => this.#takeTurn(), waited));
      this.#turns.end();
    }
    this.#isBusy = false;
  }

  /** Waits for the claim; not for ever, unless as many as may be are left behind. */
  async #patiently(claim: Promise<void>): Promise<void> {
    let patience: NodeJS.Timeout | undefined;
    const isOver = await Promise.race([
      claim.then(() => true),
      new Promise<false>((resolve) => {
        // Where no timer has this duration any more, Node forgets it, in a table of all that connections wait for; not of these.
        patience = setTimeout(resolve, this.#rules.stallTimeoutMs, false).unref();
      }),
    ]);
    clearTimeout(patience);
    if (isOver) return;
    const late = claim.then(() => {
      this.#detached.delete(late);
    });
    this.#detached.add(late);
    while (this.#detached.size > MAX_DETACHED) await Promise.race(this.#detached);
  }

  /** The first in the queue, as many as one statement may serve. */
  #take(maxItems: number): QueuedFetch[] {
    const taken: QueuedFetch[] = [];
    const targets = new Set<string>();
    let coins = 0;
    for (const caller of this.#queue) {
      if (taken.length === Math.min(maxItems, this.#rules.most.items)) break;
      const { userId, count } = caller.item;
      if (coins + count > this.#rules.most.coins) break;
      if (!targets.has(userId) && targets.size === this.#rules.most.targets) continue;
      caller.begins();
      taken.push(caller);
      targets.add(userId);
      coins += count;
    }
    return taken;
  }

  #takeTurn(): QueuedFetch[] {
    const taken = this.#take(this.#rules.most.items);
    this.#turns.took(taken.length, this.#queue.size);
    return taken;
  }

  /**
   * One statement for those whom `choose` gives. If it fails it is split, so that what is wrong with one hurts no other; not
   * where the database is away or has too much to do. Never fails.
   */
  async #claim(choose: () => QueuedFetch[], waited = 0): Promise<void> {
    const attempt: Attempt = { choose, statementFor };
    try {
      void this.#leave(await this.#send(attempt));
    } catch (error) {
      const { callers } = attempt;
      if (!callers) fail(this.#take(waited), error);
      else if (isLockTimeout(error)) for (const caller of callers) void this.#alone(caller, WITHOUT_WHOLE);
      else if (error instanceof DomainError) fail(callers, error);
      else if (callers.length === 1) void this.#leave(callers);
      else {
        const half = callers.length >> 1;
        for (const part of [callers.slice(0, half), callers.slice(half)]) await this.#claim(() => part);
      }
    }
  }

  /**
   * Chooses when there is a connection: nobody is asked for after their deadline, and who came while others waited for it goes
   * along. @returns those whom the statement did not serve
   */
  async #send(attempt: Attempt): Promise<QueuedFetch[]> {
    const left = await this.#gate.run(async ({ incarnation, activation }) => {
      let statement: Statement | undefined;
      const compile = (db: Database) => {
        attempt.callers = (attempt.callers ?? attempt.choose()).filter((caller) => caller.isStillWaiting());
        if (attempt.callers.length === 0) throw new CancelledError();
        measure.batch(attempt.callers.length);
        statement = attempt.statementFor(itemsOf(attempt), {
          incarnation,
          graceSeconds: this.#rules.graceSeconds,
          held: 'skip',
          acceptShort: false,
          targets: targetsOf(this.#rules.most),
        });
        return statement.compile(db);
      };
      const sharing = () => (attempt.callers ?? []).flatMap(({ queued }) => queued ?? []);
      const rows = (await run(this.#db, { compile, sharing })).map(toClaimRow);
      if (rows[0]?.kind === 'unverified') return UNVERIFIED;
      const items = itemsOf(attempt);
      acknowledge(this.#gate, { incarnation, activation }, items, rows);
      return new Set(statement?.settle(items, rows));
    });
    const callers = attempt.callers ?? [];
    for (const caller of callers) if (!left.has(caller.item)) caller.answered();
    return callers.filter(({ item }) => left.has(item));
  }

  /** For those whom the lane did not serve: one more statement for all of them, and then each alone. */
  async #leave(callers: readonly QueuedFetch[]): Promise<void> {
    const callerOf = new Map(callers.map((caller) => [caller.item, caller]));
    for (const wave of splitBatch([...callerOf.keys()], this.#rules.most.targets)) {
      const together = wave.flatMap((item) => callerOf.get(item) ?? []);
      const [first, ...others] = together;
      if (first && others.length === 0) {
        await this.#alone(first, WITHOUT_WHOLE);
        continue;
      }
      const attempt: Attempt = {
        choose: () => together,
        statementFor: (items, options) => ({
          compile: (db) => claim(items, options).compile(db),
          settle: (asked, rows) => settle(asked, rows, options),
        }),
      };
      try {
        for (const caller of await this.#send(attempt)) void this.#alone(caller, WAITING);
      } catch (error) {
        const left = attempt.callers ?? together;
        if (error instanceof DomainError && !isLockTimeout(error)) fail(left, error);
        else for (const caller of left) void this.#alone(caller, WITHOUT_WHOLE);
      }
    }
  }

  async #alone(caller: QueuedFetch, first: FirstRound): Promise<void> {
    const { item, deadline, queued } = caller;
    try {
      const asking = { graceSeconds: this.#rules.graceSeconds, deadline, targets: targetsOf(this.#rules.most) };
      await QueuedCall.resume(queued, () => answerAll(this.#db, this.#gate, [item], asking, first));
      caller.answered();
    } catch (error) {
      caller.failed(error);
    }
  }
}

const WITHOUT_WHOLE: FirstRound = { held: 'skip', whole: false };
const WAITING: FirstRound = { held: 'wait', whole: false };

function targetsOf({ targets }: Most): Targets {
  return targets === 1 ? 'one' : 'several';
}

function itemsOf({ callers = [] }: Attempt): Pending[] {
  return callers.map(({ item }) => item);
}

function fail(callers: readonly QueuedFetch[], error: unknown): void {
  for (const caller of callers) caller.failed(error);
}

/** The leanest for these. One that is alone goes as if there were no lanes. */
function statementFor(items: readonly Pending[], options: ClaimOptions & { targets: Targets }): Statement {
  const [first, ...others] = items;
  if (!first || others.length > 0) return { ...claimManyFast(items, options), settle: settleFast };
  if (first.categories.length === 1) return { ...claimOneFast(first, options), settle: settleFast };
  return { ...claimOne(first, options), settle: (asked, rows) => settle(asked, rows, options) };
}
