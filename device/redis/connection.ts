import { Redis } from 'ioredis';
import { ClosedError, InvalidArgumentError, UnreachableError } from '../errors';
import type { RedisAddress } from '../redis-address';
import { movedError, namedError } from './redis-errors';
import type { Reply } from './reply';
import { isFenced, readScript, SCRIPT_NAMES, type ScriptName } from './scripts';

export interface ConnectionSettings {
  readonly address: RedisAddress;
  readonly now: () => Date;
  /** The key whose `copy_state` says whether the storage may be used. */
  readonly fence: string;
  /** Longest wait for a connection, in milliseconds. */
  readonly connectTimeoutMs: number;
  /** Longest wait for an answer, in milliseconds. */
  readonly answerTimeoutMs: number;
}

export type Argument = string | number | Buffer;

/** What a script is given: built when it is about to be sent, so that it goes by the latest time. */
export type Arguments = (nowMs: number) => readonly Argument[];

/**
 * One connection to the server. It connects when it is needed: a call while the server is down fails at once, and the
 * first call after the server came back connects anew. Nothing is queued, and nothing is sent a second time: what was
 * sent over a connection that broke before the answer may or may not have been carried out.
 */
export class Connection {
  readonly #redis: Redis;
  readonly #settings: ConnectionSettings;
  #connecting: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  /** Why the last attempt to connect failed; the attempt itself only says that it did. */
  #lastFailure: unknown;
  /** Whether the server has answered anything: until then it gets no longer than for the connection. */
  #met = false;

  constructor(settings: ConnectionSettings) {
    this.#settings = settings;
    this.#redis = new Redis({
      ...settings.address.options,
      lazyConnect: true,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      retryStrategy: null,
      // A server that is still loading answers LOADING, which has a name of its own; do not wait for it.
      enableReadyCheck: false,
      connectTimeout: settings.connectTimeoutMs,
      protocol: 2,
      disableClientInfo: true,
    });
    this.#redis.on('error', (error: unknown) => {
      this.#lastFailure = error;
      // Else the client would go on in database 0, and see none of what it stored.
      if (isAbout(error, 'select')) this.#redis.stream.destroy();
    });
    for (const name of SCRIPT_NAMES) this.#redis.defineCommand(name, { lua: readScript(name) });
  }

  /** How the server is named in errors. */
  get shown(): string {
    return this.#settings.address.shown;
  }

  /** The injected clock, in milliseconds since 1970. */
  now(): number {
    const nowMs = this.#settings.now().getTime();
    if (Number.isNaN(nowMs)) throw new InvalidArgumentError('now', 'must return a valid Date');
    return nowMs;
  }

  /** One script, one step, one round trip. `build` returns the script's ARGV. */
  async run(script: ScriptName, keys: readonly string[], build: Arguments): Promise<Reply> {
    await this.#ready();
    const args = build(this.now());
    const all = isFenced(script) ? [...keys, this.#settings.fence] : keys;
    return this.#answer(() => this.#scripted(script)(all.length, ...all, ...args));
  }

  /** One command on one key, or about the server. */
  async call(command: string, ...args: readonly Argument[]): Promise<Reply> {
    await this.#ready();
    return this.#answer(() => this.#redis.callBuffer(command, [...args]) as Promise<Reply>);
  }

  /** Rejects with StorageMovedError unless the storage is in use. For answers that a wiped storage would give too. */
  async refuseFenced(): Promise<void> {
    const moved = movedError(await this.call('hget', this.#settings.fence, 'copy_state'), this.shown);
    if (moved !== null) throw moved;
  }

  /** Calls that were made before still get their answers. */
  close(): Promise<void> {
    this.#closing ??= this.#quit();
    return this.#closing;
  }

  async #quit(): Promise<void> {
    if (this.#redis.status !== 'ready') {
      this.#redis.disconnect();
      return;
    }
    await this.#within(this.#settings.answerTimeoutMs, () => this.#redis.quit()).catch(() => undefined);
  }

  #scripted(name: ScriptName): (...args: Argument[]) => Promise<Reply> {
    const command: unknown = Reflect.get(this.#redis, `${name}Buffer`);
    if (typeof command !== 'function') throw new TypeError(`There is no script ${name}.`);
    return (...args) => command.apply(this.#redis, args);
  }

  /** Waits for nothing when the connection is there. */
  async #ready(): Promise<void> {
    if (this.#closing !== undefined) throw new ClosedError();
    if (this.#redis.status === 'ready') return;
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = undefined;
    });
    await this.#connecting;
    if (this.#closing !== undefined) throw new ClosedError();
  }

  async #connect(): Promise<void> {
    this.#lastFailure = undefined;
    try {
      await this.#within(this.#settings.connectTimeoutMs, () => this.#redis.connect());
    } catch (error) {
      throw error instanceof UnreachableError ? error : namedError(this.#lastFailure ?? error, this.shown);
    }
  }

  async #answer(send: () => Promise<Reply>): Promise<Reply> {
    const { connectTimeoutMs, answerTimeoutMs } = this.#settings;
    try {
      const reply = await this.#within(this.#met ? answerTimeoutMs : connectTimeoutMs, send);
      this.#met = true;
      return reply;
    } catch (error) {
      throw error instanceof UnreachableError ? error : namedError(error, this.shown);
    }
  }

  /**
   * Breaks the connection when there is no answer in time: a server that hangs must not leave calls waiting, and the
   * next call starts on a connection of its own.
   */
  async #within<T>(timeoutMs: number, work: () => Promise<T>): Promise<T> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#redis.stream?.destroy();
    }, timeoutMs);
    try {
      return await work();
    } catch (error) {
      const cause = new Error(`No answer within ${timeoutMs} ms.`);
      throw late ? new UnreachableError(this.shown, { cause }) : error;
    } finally {
      clearTimeout(timer);
    }
  }
}

function isAbout(error: unknown, command: string): boolean {
  if (typeof error !== 'object' || error === null || !('command' in error)) return false;
  const { command: sent } = error;
  return typeof sent === 'object' && sent !== null && 'name' in sent && sent.name === command;
}
