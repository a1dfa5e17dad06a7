import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import type { Logger } from 'pino';
import { LimitsUnavailableError } from '../errors';
import { type Charge, type Limits, longestRefillMs, refillMs } from './limits';

/** Default of the longest time that a call waits for Redis, in milliseconds. */
const ANSWER_TIMEOUT_MS = 500;
/** Longest pause between two reconnect attempts, in milliseconds. */
const MAX_RECONNECT_DELAY_MS = 2_000;
const PREFIX = 'aqm:limit:';

interface Scripts {
  takeCoins(keys: number, ...rest: (string | number)[]): Promise<number>;
  refundCoins(keys: number, ...rest: (string | number)[]): Promise<void>;
}

/**
 * Keeps the budgets in one Redis that all servers share. Each method takes one round trip. While
 * Redis is unreachable, is a replica or lacks the database of the URL, no call is admitted
 * (LimitsUnavailableError). If Redis loses its data, all budgets are full again once.
 */
export class RedisLimits implements Limits {
  readonly #redis: Redis & Scripts;
  readonly #log: Logger;

  /** @param answerTimeoutMs longest time that a call waits for Redis, in milliseconds */
  constructor(url: string, log: Logger, answerTimeoutMs = ANSWER_TIMEOUT_MS) {
    this.#log = log;
    const redis = new Redis(url, {
      enableOfflineQueue: false,
      // A charge that may have been taken must not be sent again.
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      connectTimeout: answerTimeoutMs,
      commandTimeout: answerTimeoutMs,
      retryStrategy: (attempt) => Math.min(MAX_RECONNECT_DELAY_MS, 50 * 2 ** attempt),
      disableClientInfo: true,
      reconnectOnError: isWrongServer,
    });
    redis.on('error', (error: unknown) => {
      log.warn({ err: error }, 'cannot reach the rate-limit Redis');
      // Otherwise the client would continue in database 0.
      if (isAboutSelect(error)) redis.stream.destroy();
    });
    redis.defineCommand('takeCoins', { lua: readScript('take.lua') });
    redis.defineCommand('refundCoins', { lua: readScript('refund.lua') });
    this.#redis = redis as Redis & Scripts;
  }

  async take(charges: readonly Charge[]): Promise<number> {
    const refillTimes = charges.flatMap((charge) => [refillMs(charge.rate, charge.amount), longestRefillMs(charge)]);
    try {
      return await this.#redis.takeCoins(charges.length, ...keysOf(charges), ...refillTimes);
    } catch (error) {
      throw new LimitsUnavailableError({ cause: error });
    }
  }

  async refund(charges: readonly Charge[]): Promise<void> {
    try {
      await this.#refund(charges, 1);
    } catch (error) {
      this.#log.warn({ err: error }, 'cannot refund unused coins; their budgets refill over time');
    }
  }

  async owe(charges: readonly Charge[]): Promise<void> {
    try {
      await this.#refund(charges, -1);
    } catch (error) {
      this.#log.warn({ err: error }, 'cannot charge for coins that were handed out');
    }
  }

  #refund(charges: readonly Charge[], direction: 1 | -1): Promise<void> {
    const refillTimes = charges.map(({ rate, amount }) => direction * refillMs(rate, amount));
    return this.#redis.refundCoins(charges.length, ...keysOf(charges), ...refillTimes);
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
  }
}

/**
 * Returns true if the server has become a replica, as in a failover behind one name. Another one may answer to its name
 * now, so the client connects again. The first word of an error reply is its code.
 */
function isWrongServer({ message }: Error): boolean {
  return ['READONLY', 'MASTERDOWN'].includes(message.split(' ', 1)[0] ?? '');
}

/** Returns true if the database of the URL does not exist. */
function isAboutSelect(error: unknown): boolean {
  return (error as { readonly command?: { readonly name?: string } }).command?.name === 'select';
}

function keysOf(charges: readonly Charge[]): string[] {
  return charges.map(({ budget }) => PREFIX + budget);
}

function readScript(name: string): string {
  return readFileSync(join(__dirname, name), 'utf8');
}
