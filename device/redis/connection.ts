import { Redis } from 'ioredis';
import { type ClockSettings, type Times, TrustedClock } from '../contract/trusted-clock';
import { ClosedError, StorageMissingError, UnreachableError } from '../errors';
import type { RedisAddress } from '../redis-address';
import { isWrongServer, movedError, namedError } from './redis-errors';
import { listIn, numberIn, type Reply } from './reply';
import { checksMoveState, readScript, SCRIPT_NAMES, type ScriptName } from './scripts';
import type { CheckedServer } from './server-checks';

export interface ConnectionSettings extends ClockSettings {
  readonly address: RedisAddress;
  /** The key of the device's record, with the fields `copy_state` (the move state) and `trusted_at` (the trusted time). */
  readonly deviceKey: string;
  /** The longest wait for a connection, in milliseconds. */
  readonly connectTimeoutMs: number;
  /** The longest wait for a reply, in milliseconds. */
  readonly answerTimeoutMs: number;
  /** Checks the server after every connection. If it rejects, the connection is broken and the call fails with it. */
  readonly check: (server: CheckedServer) => Promise<void>;
}

export type Argument = string | number | Buffer;

/** Builds a script's arguments. Called right before the script is sent, so that they hold the current time. */
export type Arguments = (nowMs: number, forgetMs: number) => readonly Argument[];

/**
 * One connection to the server, made when it is needed: a call while the server is down fails at once, and the first
 * call after the server is back reconnects. No call is queued or sent a second time. A call whose connection broke
 * before the reply may or may not have been carried out.
 *
 * After every connection the server is checked again, because another one may have taken its place.
 */
export class Connection {
  readonly #redis: Redis;
  readonly #settings: ConnectionSettings;
  readonly #clock: TrustedClock;
  #connecting: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  /** The reason why the last attempt to connect failed. The rejected attempt itself does not give it. */
  #lastFailure: unknown;
  /** Names the device in its record. Text where it can be, because ioredis sends Buffers more slowly. */
  #identity: string | Buffer | undefined;
  /** True once the server has replied to a call. Until then a reply has to arrive within the connection timeout. */
  #hasReplied = false;

  constructor(settings: ConnectionSettings) {
    this.#settings = settings;
    this.#clock = new TrustedClock(settings);
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

  /** Returns the times for one operation, as far as this process knows the trusted time. */
  times(): Times {
    return this.#clock.times();
  }

  /** Returns the times for one operation, after the trusted time was read again if the clock has jumped. */
  async freshTimes(): Promise<Times> {
    // Another process may have trusted a later time since.
    if (this.#clock.hasJumped) await this.readTrustedTime();
    return this.#clock.times();
  }

  /** Takes over the trusted time that the server keeps. */
  async readTrustedTime(): Promise<void> {
    const value = await this.call('hget', this.#settings.deviceKey, 'trusted_at');
    this.#clock.adopt(value === null ? null : numberIn(value));
  }

  /** Rejects with ClockError if the device's clock is not trusted, by the time that the server keeps now. */
  async checkClock(): Promise<void> {
    await this.readTrustedTime();
    this.#clock.check();
  }

  /** See EngineClock. */
  async nowToStore(): Promise<number> {
    const { nowMs } = await this.freshTimes();
    this.#clock.refuseBehind();
    return nowMs;
  }

  /** Changes the trusted time, and saves it also if the change ends with an error. */
  async changeClock(change: (clock: TrustedClock) => void): Promise<void> {
    await this.readTrustedTime();
    try {
      change(this.#clock);
    } finally {
      await this.#saveTrustedTime();
    }
  }

  async #saveTrustedTime(): Promise<void> {
    const { unsavedMs } = this.#clock;
    if (unsavedMs === null) return;
    await this.#runScript('trusted-time-save', [this.#settings.deviceKey], [unsavedMs]);
    this.#clock.saved(unsavedMs);
  }

  /** Expects from now on that the server has the record of this device: its id, or else its salt. */
  identify(identity: string | Buffer): void {
    this.#identity = identity;
  }

  /** Runs one script, which is one atomic step and one round trip. `build` returns the script's ARGV. */
  async run(script: ScriptName, keys: readonly string[], build: Arguments): Promise<Reply> {
    await this.#ready();
    if (!checksMoveState(script)) return this.#runScript(script, keys, build(0, 0));
    const { nowMs, forgetMs, trustedMs } = await this.freshTimes();
    await this.#saveTrustedTime();
    const args = [...build(nowMs, forgetMs), forgetMs, trustedMs, this.#identity ?? ''];
    return this.#runScript(script, [...keys, this.#settings.deviceKey], args);
  }

  /** Sends one command on one key, or about the server. */
  async call(command: string, ...args: readonly Argument[]): Promise<Reply> {
    await this.#ready();
    return this.#send(command, ...args);
  }

  /**
   * Rejects with StorageMovedError unless the storage is in use, see MoveState, and with StorageMissingError if it is
   * gone. Needed where a command finds nothing, as it would in a wiped storage.
   */
  async refuseMoved(): Promise<void> {
    await this.#ready();
    const moved = movedError(await this.#readMoveState(), this.shown);
    if (moved !== null) throw moved;
  }

  /** Returns the move state. Rejects with StorageMissingError if the record is gone or is that of another device. */
  async #readMoveState(): Promise<Reply> {
    const record = await this.#send('hmget', this.#settings.deviceKey, 'id', 'salt', 'copy_state');
    const [id, salt, moveState = null] = listIn(record);
    const found = id ?? salt;
    const expected = Buffer.from(this.#identity ?? '');
    if (!Buffer.isBuffer(found) || !found.equals(expected)) throw new StorageMissingError(this.shown);
    return moveState;
  }

  #send(command: string, ...args: readonly Argument[]): Promise<Reply> {
    return this.#answer(() => this.#redis.callBuffer(command, [...args]) as Promise<Reply>);
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

  /** Runs a script. Its arguments are passed as lists: thousands of arguments would exhaust the stack. */
  #runScript(script: ScriptName, keys: readonly string[], args: readonly Argument[]): Promise<Reply> {
    return this.#answer(() => this.#scripted(script)(keys.length, keys, args));
  }

  #scripted(name: ScriptName): (...args: (Argument | readonly Argument[])[]) => Promise<Reply> {
    const command: unknown = Reflect.get(this.#redis, `${name}Buffer`);
    if (typeof command !== 'function') throw new TypeError(`There is no script ${name}.`);
    return (...args) => command.apply(this.#redis, args);
  }

  /** Connects unless the connection is up, in which case it resolves without a wait. */
  async #ready(): Promise<void> {
    if (this.#closing !== undefined) throw new ClosedError();
    if (this.#redis.status === 'ready' && !this.#redis.stream.destroyed && this.#connecting === undefined) return;
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = undefined;
    });
    await this.#connecting;
    if (this.#closing !== undefined) throw new ClosedError();
  }

  async #connect(): Promise<void> {
    this.#lastFailure = undefined;
    try {
      await this.#within(this.#settings.connectTimeoutMs, async () => {
        await this.#ended();
        await this.#redis.connect();
      });
    } catch (error) {
      throw error instanceof UnreachableError ? error : namedError(this.#lastFailure ?? error, this.shown);
    }
    try {
      await this.#settings.check({ shown: this.shown, call: (command, ...args) => this.#send(command, ...args) });
      if (this.#identity !== undefined) await this.#readMoveState();
    } catch (error) {
      this.#redis.stream.destroy();
      // A database that does not exist breaks the connection during the check.
      throw this.#lastFailure === undefined ? error : namedError(this.#lastFailure, this.shown);
    }
  }

  /** Waits until a connection that was broken has ended, which it does a moment later. */
  async #ended(): Promise<void> {
    if (this.#redis.status === 'wait' || this.#redis.status === 'end') return;
    await new Promise<void>((resolve) => {
      this.#redis.once('end', resolve);
    });
  }

  async #answer(send: () => Promise<Reply>): Promise<Reply> {
    const { connectTimeoutMs, answerTimeoutMs } = this.#settings;
    const { stream } = this.#redis;
    try {
      const reply = await this.#within(this.#hasReplied ? answerTimeoutMs : connectTimeoutMs, send);
      this.#hasReplied = true;
      return reply;
    } catch (error) {
      // The next call makes a new connection, and reaches the right server if it has the same name.
      if (isWrongServer(error)) stream.destroy();
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
