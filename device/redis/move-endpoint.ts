import { DEVICE_FACTS, type DeviceFacts, type DeviceRecords, type RecordKind } from '../contract/device-record';
import { isMoveStateName, type MoveEndpoint, type MoveState } from '../contract/move-endpoint';
import { MoveOvertakenError, StorageCorruptedError, TargetNotEmptyError, UnreachableError } from '../errors';
import { cleanUp, rewriteHistory } from './clean-up';
import type { Argument, Connection } from './connection';
import type { Keys } from './keys';
import { openDevice, type RedisDevice, type RedisSettings } from './open';
import { RecordReader } from './record-reader';
import { RecordWriter } from './record-writer';
import { listIn, textIn } from './reply';
import { infoField } from './server-checks';

/**
 * Opens a storage as an endpoint of a move. An unknown device is created, or with `mustExist` is a StorageMissingError.
 */
export function openRedisMoveEndpoint(
  settings: RedisSettings,
  options: { readonly mustExist: boolean },
): Promise<MoveEndpoint> {
  return openDevice({ ...settings, create: !options.mustExist }, async (device) => new RedisMoveEndpoint(device));
}

class RedisMoveEndpoint implements MoveEndpoint {
  readonly backend = 'redis';
  readonly shown: string;
  readonly #device: RedisDevice;
  readonly #connection: Connection;
  readonly #keys: Keys;
  readonly #reader: RecordReader;
  #writer: RecordWriter;

  constructor(device: RedisDevice) {
    this.#device = device;
    this.#connection = device.connection;
    this.#keys = device.keys;
    this.shown = device.connection.shown;
    this.#reader = new RecordReader(device);
    this.#writer = new RecordWriter(device);
  }

  async readState(): Promise<MoveState> {
    const fields = listIn(await this.#connection.call('hmget', this.#keys.device, 'copy_state', 'copy_id', 'copy_run'));
    const [state = 'ACTIVE', moveId = '', runId = ''] = fields.map((field) =>
      field === null ? undefined : textIn(field),
    );
    if (!isMoveStateName(state)) throw new StorageCorruptedError();
    return { state, moveId: moveId || null, runId: runId || null };
  }

  async changeState(from: MoveState, to: MoveState): Promise<void> {
    const { device, everyIndex } = this.#keys;
    const mustBeEmpty = to.state === 'RECEIVING' && from.state !== 'RECEIVING';
    // Pending requests are in no index, so that only a SCAN finds them.
    if (mustBeEmpty && !(await this.isEmpty())) throw new TargetNotEmptyError(this.shown);
    const state = ['copy_state', to.state, 'copy_id', to.moveId ?? '', 'copy_run', to.runId ?? ''];
    await this.#step(from, [['hset', device, ...state]], mustBeEmpty ? everyIndex : []);
  }

  async isEmpty(): Promise<boolean> {
    const { outboxSequence, sequence } = this.#keys;
    for await (const keys of this.#reader.ownKeys()) {
      if (keys.some((key) => key !== outboxSequence && key !== sequence)) return false;
    }
    return true;
  }

  read<Kind extends RecordKind>(kind: Kind): AsyncIterable<readonly DeviceRecords[Kind][]> {
    return this.#reader.read(kind);
  }

  async put<Kind extends RecordKind>(
    state: MoveState,
    kind: Kind,
    records: readonly DeviceRecords[Kind][],
  ): Promise<void> {
    await this.#step(state, this.#writer.commands(kind, records));
  }

  async readFacts(): Promise<DeviceFacts> {
    const values = listIn(await this.#connection.call('hmget', this.#keys.device, ...DEVICE_FACTS));
    return Object.fromEntries(
      DEVICE_FACTS.flatMap((name, index) => {
        const value = values[index] ?? null;
        return value === null ? [] : [[name, textIn(value)]];
      }),
    );
  }

  async putFacts(state: MoveState, facts: DeviceFacts): Promise<void> {
    const known = Object.entries(facts).flat();
    const commands: Argument[][] = [['hdel', this.#keys.device, ...DEVICE_FACTS]];
    if (known.length > 0) commands.push(['hset', this.#keys.device, ...known]);
    await this.#step(state, commands);
  }

  async wipe(state: MoveState): Promise<void> {
    let wiped = 0;
    for await (const keys of this.#reader.ownKeys()) {
      if (keys.length > 0) await this.#step(state, [['del', ...keys]]);
      wiped += keys.length;
    }
    this.#writer = new RecordWriter(this.#device);
    // The server's files must not keep any private half.
    if (wiped > 0) await cleanUp(this.#connection);
  }

  async settle(): Promise<void> {
    const info = textIn(await this.#connection.call('info', 'persistence'));
    if (infoField(info, 'aof_enabled') !== '1') {
      const cause = new Error(
        'appendonly is off, so a restart would lose the keys. Use the settings of deploy/redis.conf.',
      );
      throw new UnreachableError(this.shown, { cause });
    }
    // A finished rewrite is synced, whatever the setting of appendfsync.
    await rewriteHistory(this.#connection);
  }

  async close(): Promise<void> {
    await this.#connection.close();
    this.#device.names.wipe();
  }

  /** Sends commands as one atomic step, which fails if the state is not the expected one. */
  async #step(state: MoveState, commands: readonly Argument[][], absent: readonly string[] = []): Promise<void> {
    const expected = `${state.state} ${state.moveId ?? ''} ${state.runId ?? ''}`;
    const args = commands.flatMap((command): Argument[] => [command.length, ...command]);
    const reply = await this.#connection.run('move-step', [this.#keys.device, ...absent], () => [expected, ...args]);
    const outcome = textIn(reply);
    if (outcome === 'NOT_EMPTY') throw new TargetNotEmptyError(this.shown);
    if (outcome !== 'DONE') throw new MoveOvertakenError(this.shown);
  }
}
