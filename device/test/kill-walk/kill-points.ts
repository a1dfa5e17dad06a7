import fs from 'node:fs';
import Database from 'better-sqlite3';
import { Redis } from 'ioredis';
import type { CoinServiceClient } from '../../index';

let passed = 0;
let killAt = 0;

/** From now on every boundary counts, and at the given one (1 is the next) this process dies by SIGKILL. */
export function armKillPoint(boundary: number): void {
  passed = 0;
  killAt = boundary;
}

export function disarmKillPoint(): void {
  killAt = 0;
}

function boundary(): void {
  passed += 1;
  if (passed === killAt) process.kill(process.pid, 'SIGKILL');
}

/** Every statement of SQLite has a boundary before it: BEGIN, COMMIT, PRAGMA and migrations included. */
export function watchSqlite(): void {
  const probe = new Database(':memory:');
  const statement: object = Object.getPrototypeOf(probe.prepare('SELECT 1'));
  probe.close();
  for (const method of ['run', 'get', 'all']) watch(statement, method);
  watch(Database.prototype, 'exec');
}

/** Every command to Redis has a boundary before it is sent, one before its answer comes, and one after. */
export function watchRedis(): void {
  const original: unknown = Reflect.get(Redis.prototype, 'sendCommand');
  if (typeof original !== 'function') throw new TypeError('There is no sendCommand to watch.');
  Reflect.set(Redis.prototype, 'sendCommand', async function (this: unknown, ...args: unknown[]) {
    boundary();
    const sent: unknown = original.apply(this, args);
    boundary();
    const answer: unknown = await sent;
    boundary();
    return answer;
  });
}

/** Every change of a folder's entries has a boundary before it. */
export function watchFiles(): void {
  for (const method of ['linkSync', 'renameSync', 'rmSync', 'writeSync', 'fsyncSync']) watch(fs, method);
}

/** Every call has a boundary before it is sent and one after its answer arrived. */
export function watchCalls(client: CoinServiceClient): CoinServiceClient {
  return new Proxy(client, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== 'function') return member;
      return (...args: unknown[]) => {
        const callback = args.at(-1);
        boundary();
        if (typeof callback !== 'function') return member.apply(target, args);
        const answered = (...answer: unknown[]) => {
          boundary();
          callback(...answer);
        };
        return member.apply(target, [...args.slice(0, -1), answered]);
      };
    },
  });
}

function watch(prototype: object, method: string): void {
  const original: unknown = Reflect.get(prototype, method);
  if (typeof original !== 'function') throw new TypeError(`There is no ${method} to watch.`);
  Reflect.set(prototype, method, function (this: unknown, ...args: unknown[]) {
    boundary();
    return original.apply(this, args);
  });
}
