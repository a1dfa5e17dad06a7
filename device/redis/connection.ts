import { Redis } from 'ioredis';
import { ClosedError, InvalidArgumentError, UnreachableError } from '../errors';
import type { RedisAddress } from '../redis-address';
import { movedError, namedError } from './redis-errors';
import type { Reply } from './reply';
import { checksMoveState, readScript, SCRIPT_NAMES, type ScriptName } from './scripts';

export interface ConnectionSettings {
  readonly address: RedisAddress;
  readonly now: () => Date;
  /** The key of the device's record, whose field `copy_state` is the move state. */
  readonly deviceKey: string;
  /** The longest wait for a connection, in milliseconds. */
  readonly connectTimeoutMs: number;
  /** The longest wait for a reply, in milliseconds. */
  readonly answerTimeoutMs: number;
}

export type Argument = string | number | Buffer;

/** Builds a script's arguments. Called right before the script is sent, so that they hold the current time. */
export type Arguments = (nowMs: number) => readonly Argument[];

/**
 * One connection to the server, made when it is needed: a call while the server is down fails at once, and the first
 * call after the server is back reconnects. No call is queued or sent a second time. A call whose connection broke
 * before the reply may or may not have been carried out.
 */
export class Connection {
  readonly #redis: Redis;
  readonly #settings: ConnectionSettings;
  #connecting: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  /** The reason why the last attempt to connect failed. The rejected attempt itself does not give it. */
  #lastFailure: unknown;
  /** True once the server has replied to a call. Until then a reply has to arrive within the connection timeout. */
  #hasReplied = false;

  constructor(settings: ConnectionSettings) {
    this.#settings = settings;
    this.#redis = new Redis({
      ...settings.address.options,
      lazyConnect: true,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      retryStrategy: null,
      // Do not wait for a server that is loading its data: it answers LOADING, which becomes a StorageBusyError.
      enableReadyCheck: false,
      connectTimeout: settings.connectTimeoutMs,
      protocol: 2,
      disableClientInfo: true,
    });
    this.#redis.on('error', (error: unknown) => {
      this.#lastFailure = error;
      // Otherwise the client would continue in database 0, where none of the device's data is.
      if (isAbout(error, 'select')) this.#redis.stream.destroy();
    });
    for (const name of SCRIPT_NAMES) this.#redis.defineCommand(name, { lua: readScript(name) });
  }

  /** The name of the server in errors. */
  get shown(): string {
    return this.#settings.address.shown;
  }

  /** Reads the injected clock, in milliseconds since 1970. */
  now(): number {
    // Without type checks it may return a number.
    const nowMs = Number(this.#settings.now()?.getTime?.());
    if (Number.isNaN(nowMs)) throw new InvalidArgumentError('now', 'must return a valid Date');
    return nowMs;
  }

  /** Runs one script, which is one atomic step and one round trip. `build` returns the script's ARGV. */
  async run(script: ScriptName, keys: readonly string[], build: Arguments): Promise<Reply> {
    await this.#ready();
    const args = build(this.now());
    const all = checksMoveState(script) ? [...keys, this.#settings.deviceKey] : keys;
    return this.#answer(() => this.#scripted(script)(all.length, ...all, ...args));
  }

  /** Sends one command on one key, or about the server. */
  async call(command: string, ...args: readonly Argument[]): Promise<Reply> {
    await this.#ready();
    return this.#answer(() => this.#redis.callBuffer(command, [...args]) as Promise<Reply>);
  }

  /**
   * Rejects with StorageMovedError unless the storage is in use, see MoveState. Needed where a command finds nothing,
   * as it would in a wiped storage.
   */
  async refuseMoved(): Promise<void> {
    const moved = movedError(await this.call('hget', this.#settings.deviceKey, 'copy_state'), this.shown);
    if (moved !== null) throw moved;
  }

  /** Closes the connection. Calls that were made before still get their replies. */
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

  /** Connects unless the connection is up, in which case it resolves without a wait. */
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
      const reply = await this.#within(this.#hasReplied ? answerTimeoutMs : connectTimeoutMs, send);
      this.#hasReplied = true;
      return reply;
    } catch (error) {
      throw error instanceof UnreachableError ? error : namedError(error, this.shown);
    }
  }

  /**
   * Breaks the connection if there is no reply in time: calls must not wait for a server that hangs, and the next call
   * starts with a new connection.
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
      const cause = new Error(`The server did not reply within ${timeoutMs} ms.`);
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
