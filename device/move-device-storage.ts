import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { readChoice, switchChoice } from './backend-choice';
import { RECORD_KINDS, RecordDigest, type RecordKind } from './contract/device-record';
import type { BackendName } from './contract/device-storage';
import { type MoveEndpoint, type MoveState, sameState } from './contract/move-endpoint';
import {
  type AutoConfig,
  checkConfig,
  type DeviceStorageConfig,
  type RedisConfig,
  type SqliteConfig,
} from './device-config';
import { InvalidArgumentError, MoveVerificationError, StorageMovedError, TargetNotEmptyError } from './errors';
import { openMoveEndpoint } from './open-move-endpoint';

/** Reports the records that a call of moveDeviceStorage moved. */
export interface MoveReport {
  /** The backend of the source. */
  readonly from: BackendName;
  /** The backend of the target. */
  readonly to: BackendName;
  /** The number of records of each kind that this call moved and verified. Empty if an earlier call had done so. */
  readonly moved: Readonly<Partial<Record<RecordKind, number>>>;
}

/**
 * Moves everything of a device from one storage to another, and then wipes the source. For a device that uses `auto`,
 * `from` is its config, and `to` names the other backend with the same path, url and namespace; its record is switched
 * too.
 *
 * At most one of the two storages can be opened at any time, and neither while records are being moved: handles that
 * other processes hold fail with StorageMovedError. The source is wiped only after all records have arrived, are
 * durable and were compared; the target can be used only after the source was wiped. After a crash at any point, call
 * it again with the same arguments to finish; a repeat after the end changes nothing. Another target may be named until
 * the wiping begins.
 *
 * Rejects with the errors of opening either storage, with TargetNotEmptyError, MoveVerificationError or
 * MoveOvertakenError, and with StorageMovedError if the source was moved to another target or is itself a target.
 */
export async function moveDeviceStorage(
  from: DeviceStorageConfig,
  to: SqliteConfig | RedisConfig,
): Promise<MoveReport> {
  const target = checkConfig(to);
  if (target.backend !== 'sqlite' && target.backend !== 'redis') {
    throw new InvalidArgumentError('to', "must name the backend 'sqlite' or 'redis'");
  }
  const auto = from?.backend === 'auto' ? checkConfig(from) : null;
  if (auto !== null) checkBelongs(auto, target);
  const sourceConfig = auto === null ? checkConfig(from) : otherBackend(auto, target.backend);
  if (sourceConfig.backend === 'auto') throw new InvalidArgumentError('from', 'must name a backend');
  checkDiffer(sourceConfig, target);

  const source = await openMoveEndpoint(checkConfig(sourceConfig), { mustExist: true });
  try {
    const destination = await openMoveEndpoint(target, { mustExist: false });
    try {
      return await new Move(source, destination, () => {
        if (auto !== null) switchChoice(auto.path, target.backend);
      }).run();
    } finally {
      await destination.close();
    }
  } finally {
    await source.close();
  }
}

/** One call of moveDeviceStorage. */
class Move {
  readonly #source: MoveEndpoint;
  readonly #target: MoveEndpoint;
  readonly #switchRecord: () => void;

  constructor(source: MoveEndpoint, target: MoveEndpoint, switchRecord: () => void) {
    this.#source = source;
    this.#target = target;
    this.#switchRecord = switchRecord;
  }

  /** Performs all steps that are left. Their order is what keeps the promise; docs/adr/0012-device-choice.md explains it. */
  async run(): Promise<MoveReport> {
    let records: MoveReport['moved'] = {};
    let { moveId, runId, state } = await this.#source.readState();
    if (state === 'RECEIVING') throw new StorageMovedError(this.#source.shown, 'RECEIVING');
    if (state === 'ACTIVE' || state === 'MOVING') {
      ({ moveId, runId } = await this.#begin({ moveId, runId, state }));
      records = await this.#copyRecords({ state: 'RECEIVING', moveId, runId });
      await this.#target.settle();
      // From here on the target has the keys. Fails if another call took over, because the compared records are gone
      // then.
      await this.#source.changeState({ state: 'MOVING', moveId, runId }, { state: 'MOVED', moveId, runId });
      state = 'MOVED';
    }
    const arrived = await this.#target.readState();
    if (moveId === null || arrived.moveId !== moveId || (arrived.state !== 'RECEIVING' && arrived.state !== 'ACTIVE')) {
      throw new StorageMovedError(this.#source.shown, 'MOVED');
    }
    // In a power cut the target may lose its last step (appendfsync everysec) while the source keeps its own.
    if (state === 'MOVED' || arrived.state === 'RECEIVING') await this.#finish({ state, moveId, runId }, arrived);
    return { from: this.#source.backend, to: this.#target.backend, moved: records };
  }

  /** Reserves the target and then closes the source to its users. A target that refuses leaves the source in use. */
  async #begin(found: MoveState): Promise<MoveState> {
    const target = await this.#target.readState();
    const runId = randomUUID();
    const resumes = found.state === 'MOVING' && target.state === 'RECEIVING' && target.moveId === found.moveId;
    const moveId = resumes ? found.moveId : randomUUID();
    const moving: MoveState = { state: 'MOVING', moveId, runId };
    if (resumes) {
      // The source first, so that the previous call can no longer declare it moved.
      await this.#source.changeState(found, moving);
      await this.#target.changeState(target, { state: 'RECEIVING', moveId, runId });
      return moving;
    }
    const free =
      target.state === 'ACTIVE' ||
      target.state === 'LEFT' ||
      target.state === 'RECEIVING' ||
      // A move back: the source is the storage that the target was moved to, and only the target's last step is
      // missing.
      (target.state === 'MOVED' && found.state === 'ACTIVE' && found.moveId === target.moveId);
    if (!free || !(await this.#target.isEmpty())) throw new TargetNotEmptyError(this.#target.shown);
    await this.#target.changeState(target, { state: 'RECEIVING', moveId, runId });
    try {
      await this.#source.changeState(found, moving);
    } catch (error) {
      await this.#target.changeState({ state: 'RECEIVING', moveId, runId }, target);
      throw error;
    }
    return moving;
  }

  async #copyRecords(receiving: MoveState): Promise<MoveReport['moved']> {
    // Removes what a crashed call left there.
    await this.#target.wipe(receiving);
    await this.#target.putFacts(receiving, await this.#source.readFacts());
    const counts: Partial<Record<RecordKind, number>> = {};
    for (const kind of RECORD_KINDS) {
      const sent = new RecordDigest();
      for await (const batch of this.#source.read(kind)) {
        for (const record of batch) sent.add(kind, record);
        await this.#target.put(receiving, kind, batch);
      }
      const arrived = new RecordDigest();
      for await (const batch of this.#target.read(kind)) for (const record of batch) arrived.add(kind, record);
      if (sent.count !== arrived.count || sent.value !== arrived.value) throw new MoveVerificationError(kind);
      counts[kind] = sent.count;
    }
    return counts;
  }

  async #finish(moved: MoveState, arrived: MoveState): Promise<void> {
    await this.#source.wipe(moved);
    const active: MoveState = { ...arrived, state: 'ACTIVE' };
    if (!sameState(arrived, active)) await this.#target.changeState(arrived, active);
    this.#switchRecord();
    await this.#source.changeState(moved, { ...moved, state: 'LEFT' });
  }
}

/** Refuses a target that the record of an `auto` device cannot name: its vault would look empty afterwards. */
function checkBelongs(auto: AutoConfig, target: SqliteConfig | RedisConfig): void {
  const belongs =
    target.backend === 'sqlite'
      ? resolve(target.path) === resolve(auto.path)
      : target.url === auto.url && target.namespace === auto.namespace;
  if (!belongs) throw new InvalidArgumentError('to', 'must be one of the two storages of the auto config');
  if (readChoice(auto.path) === null)
    throw new InvalidArgumentError('from', 'must be the config of a device that was opened before');
}

function otherBackend(
  { path, key, url, namespace, ...common }: AutoConfig,
  to: BackendName,
): SqliteConfig | RedisConfig {
  return to === 'redis'
    ? { ...common, backend: 'sqlite', path, key }
    : { ...common, backend: 'redis', url, namespace, key };
}

function checkDiffer(from: SqliteConfig | RedisConfig, to: SqliteConfig | RedisConfig): void {
  const same =
    from.backend === 'sqlite'
      ? to.backend === 'sqlite' && resolve(from.path) === resolve(to.path)
      : to.backend === 'redis' && from.url === to.url && from.namespace === to.namespace;
  if (same) throw new InvalidArgumentError('to', 'must not be the source itself');
}
