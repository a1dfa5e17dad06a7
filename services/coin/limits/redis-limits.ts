import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import type { Logger } from 'pino';
import { LimitsUnavailableError } from '../errors';
import { type Charge, type Limits, refillMs } from './limits';

/** A fetch waits no longer than this for its budgets, in milliseconds. */
const ANSWER_TIMEOUT_MS = 500;
/** Longest pause between two attempts to reach the server again, in milliseconds. */
const LONGEST_PAUSE_MS = 2_000;
const PREFIX = 'aqm:limit:';

interface Scripts {
  takeCoins(keys: number, ...rest: (string | number)[]): Promise<number>;
  giveCoinsBack(keys: number, ...rest: (string | number)[]): Promise<void>;
}

/**
 * Budgets that all servers share through one Redis, in one round trip a call. While it cannot be reached nothing is
 * admitted: LimitsUnavailableError. Losing its data fills all budgets up once.
 */
export class RedisLimits implements Limits {
  readonly #redis: Redis & Scripts;
  readonly #log: Logger;

  constructor(url: string, log: Logger) {
    this.#log = log;
    const redis = new Redis(url, {
      enableOfflineQueue: false,
      // A charge that may have been taken must not be taken again.
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      connectTimeout: ANSWER_TIMEOUT_MS,
      commandTimeout: ANSWER_TIMEOUT_MS,
      retryStrategy: (attempt) => Math.min(LONGEST_PAUSE_MS, 50 * 2 ** attempt),
      disableClientInfo: true,
    });
    redis.on('error', (error: unknown) => log.warn({ err: error }, 'the Redis of the limits cannot be reached'));
    redis.defineCommand('takeCoins', { lua: readScript('take.lua') });
    redis.defineCommand('giveCoinsBack', { lua: readScript('give-back.lua') });
    this.#redis = redis as Redis & Scripts;
  }

  async take(charges: readonly Charge[]): Promise<number> {
    const spans = charges.flatMap(({ rate, amount }) => [refillMs(rate, amount), refillMs(rate, rate.burst)]);
    try {
      return await this.#redis.takeCoins(charges.length, ...keysOf(charges), ...spans);
    } catch (error) {
      throw new LimitsUnavailableError({ cause: error });
    }
  }

  async giveBack(charges: readonly Charge[]): Promise<void> {
    const spans = charges.map(({ rate, amount }) => refillMs(rate, amount));
    try {
      await this.#redis.giveCoinsBack(charges.length, ...keysOf(charges), ...spans);
    } catch (error) {
      this.#log.warn({ err: error }, 'unused coins could not be put back into their budgets, which refill over time');
    }
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
  }
}

function keysOf(charges: readonly Charge[]): string[] {
  return charges.map(({ budget }) => PREFIX + budget);
}

function readScript(name: string): string {
  return readFileSync(join(__dirname, name), 'utf8');
}
