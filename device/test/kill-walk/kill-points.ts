import fs from 'node:fs';
import Database from 'better-sqlite3';
import { Redis } from 'ioredis';
import { IS_FULL_RUN } from '../../../testkit/tier';
import type { CoinServiceClient } from '../../index';

/**
 * A boundary at which a process can be killed: its kind, and the number of boundaries of that kind up to it. That names
 * the same step in every run, also if a flow repeats other steps while it waits, such as asking Redis for its state.
 */
export type KillPoint = `${string} ${number}`;

let passed: string[] = [];
let killAt: KillPoint | null = null;

/** Starts to record boundaries. The process dies by SIGKILL at the given one; it lives if that is null. */
export function armKillPoint(point: KillPoint | null): void {
  passed = [];
  killAt = point;
}

/** Makes sure that the process lives. Returns the kinds of the boundaries that it has passed, in order. */
export function disarmKillPoint(): readonly string[] {
  killAt = null;
  return passed;
}

/** The steps that change nothing. A kill next to one of them leaves what a kill at the step before it leaves. */
const READS = new Set([
  ...['BEGIN', 'PRAGMA', 'SELECT'],
  ...['config', 'exists', 'hget', 'hkeys', 'hmget', 'info', 'scan', 'zrange'],
  'getChannel',
]);

/** The distance of the commits and replies outside of a full run. */
const QUICK_RUN_STRIDE = 10;

interface Choice {
  /** The distance of the boundaries in a full run. */
  readonly fullRunStride?: number;
  /** False if commits and replies are not walked outside of a full run, only one of each kind of step. */
  readonly commits?: boolean;
}

/**
 * Returns the boundaries of a flow at which a test kills it, in order, given the kinds of all its boundaries. In a full
 * run these are all of them. Otherwise they are the first, the last, the last one of each kind of step that
 * changes something, and the one after every tenth commit or reply.
 */
export function chooseKillPoints(
  kinds: readonly string[],
  { fullRunStride = 1, commits = true }: Choice = {},
): KillPoint[] {
  const steps = kinds.map((kind) => kind.replace(/^(before|during|after) /, ''));
  const chosen = new Set([0, kinds.length - 1]);
  let committed = 0;
  for (const [index, step] of steps.entries()) {
    if (IS_FULL_RUN && index % fullRunStride === 0) chosen.add(index);
    if (READS.has(step)) continue;
    if (steps.lastIndexOf(step) === index) chosen.add(index);
    const isCommit = step === 'COMMIT' && index + 1 < kinds.length;
    if (!isCommit && !kinds[index]?.startsWith('after ')) continue;
    if (commits && committed % QUICK_RUN_STRIDE === 0) chosen.add(isCommit ? index + 1 : index);
    committed += 1;
  }
  return [...chosen].sort((a, b) => a - b).map((index) => pointAt(kinds.slice(0, index + 1)));
}

/** Returns the last one of some boundaries, which begin with the first of their flow. */
function pointAt(kinds: readonly string[]): KillPoint {
  const last = kinds.at(-1) ?? '';
  return `${last} ${kinds.filter((kind) => kind === last).length}`;
}

function boundary(kind: string): void {
  passed.push(kind);
  if (killAt !== null && pointAt(passed) === killAt) process.kill(process.pid, 'SIGKILL');
}

/** Puts a boundary before every statement of SQLite, including BEGIN, COMMIT, PRAGMA and migrations. */
export function watchSqlite(): void {
  const probe = new Database(':memory:');
  const statement: object = Object.getPrototypeOf(probe.prepare('SELECT 1'));
  probe.close();
  for (const method of ['run', 'get', 'all']) watch(statement, method, (prepared) => firstWord(prepared.source));
  watch(Database.prototype, 'exec', (_, sql) => firstWord(sql));
}

/** Puts a boundary before every command to Redis is sent, one before its reply arrives, and one after. */
export function watchRedis(): void {
  const original: unknown = Reflect.get(Redis.prototype, 'sendCommand');
  if (typeof original !== 'function') throw new TypeError('ioredis has no method sendCommand to watch.');
  Reflect.set(Redis.prototype, 'sendCommand', async function (this: unknown, ...args: unknown[]) {
    const name = String(Reflect.get(args[0] as object, 'name'));
    boundary(`before ${name}`);
    const sent: unknown = original.apply(this, args);
    boundary(`during ${name}`);
    const reply: unknown = await sent;
    boundary(`after ${name}`);
    return reply;
  });
}

/** Puts a boundary before every change of a folder's entries and every write to a file. */
export function watchFiles(): void {
  for (const method of ['linkSync', 'renameSync', 'rmSync', 'writeSync', 'fsyncSync']) watch(fs, method, () => method);
}

/** Puts a boundary before every call to the coin service is sent, and one after its response has arrived. */
export function watchCalls(client: CoinServiceClient): CoinServiceClient {
  return new Proxy(client, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== 'function') return member;
      return (...args: unknown[]) => {
        const callback = args.at(-1);
        boundary(`before ${String(name)}`);
        if (typeof callback !== 'function') return member.apply(target, args);
        const answered = (...response: unknown[]) => {
          boundary(`after ${String(name)}`);
          callback(...response);
        };
        return member.apply(target, [...args.slice(0, -1), answered]);
      };
    },
  });
}

function watch(
  target: object,
  method: string,
  kindOf: (receiver: { readonly source?: string }, firstArgument: unknown) => string,
): void {
  const original: unknown = Reflect.get(target, method);
  if (typeof original !== 'function') throw new TypeError(`There is no method ${method} to watch.`);
  Reflect.set(target, method, function (this: { readonly source?: string }, ...args: unknown[]) {
    boundary(kindOf(this, args[0]));
    return original.apply(this, args);
  });
}

/** Returns the verb of an SQL statement, which is enough to tell its kind. */
function firstWord(sql: unknown): string {
  return /^(?:\s|--.*)*(\w+)/.exec(String(sql))?.[1] ?? '';
}
