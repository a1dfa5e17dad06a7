import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { type BackendName, readChoice, switchChoice } from './backend-choice';
import { RECORD_KINDS, RecordDigest, type RecordKind } from './contract/device-record';
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

export interface MoveReport {
  readonly from: BackendName;
  readonly to: BackendName;
  /** Records that this call copied and verified; none when an earlier call had come that far. */
  readonly copied: Readonly<Partial<Record<RecordKind, number>>>;
}

/**
 * Moves everything of a device to another storage, and wipes the first one. For a device that uses `auto`, `from` is
 * its config, and `to` names the other backend with the same path, url and namespace; its record is switched too.
 *
 * At every moment at most one of the two can be opened, and none while records are on their way: handles that other
 * processes hold fail with StorageMovedError. The source is wiped only when everything has arrived, is durable, and was
 * compared; the target can be used only when the source is wiped. After a crash anywhere, call it again with the same
 * arguments; it also answers when all was done. Until the wiping begins, another target may be named instead.
 *
 * Rejects with the errors of opening either storage; with TargetNotEmptyError, MoveVerificationError,
 * MoveOvertakenError; with StorageMovedError when the source is not one (any more).
 */
export async function moveDeviceStorage(
  from: DeviceStorageConfig,
  to: SqliteConfig | RedisConfig,
): Promise<MoveReport> {
  const target = checkConfig(to);
  if (target.backend !== 'sqlite' && target.backend !== 'redis') {
    throw new InvalidArgumentError('to', "must be of backend 'sqlite' or 'redis'");
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
      return await new Copy(source, destination, () => {
        if (auto !== null) switchChoice(auto.path, target.backend);
      }).run();
    } finally {
      await destination.close();
    }
  } finally {
    await source.close();
  }
}

class Copy {
  readonly #source: MoveEndpoint;
  readonly #target: MoveEndpoint;
  readonly #switchRecord: () => void;

  constructor(source: MoveEndpoint, target: MoveEndpoint, switchRecord: () => void) {
    this.#source = source;
    this.#target = target;
    this.#switchRecord = switchRecord;
  }

  /** The order of these steps is the promise; docs/adr/0012-device-choice.md says why. */
  async run(): Promise<MoveReport> {
    let copied: MoveReport['copied'] = {};
    let { copyId, runId, state } = await this.#source.readState();
    if (state === 'RECEIVING') throw new StorageMovedError(this.#source.shown, 'RECEIVING');
    if (state === 'ACTIVE' || state === 'MOVING') {
      ({ copyId, runId } = await this.#begin({ copyId, runId, state }));
      copied = await this.#copyAll({ state: 'RECEIVING', copyId, runId });
      await this.#target.settle();
      // From here on the target has the keys. Fails when another call took over, for then what was compared is gone.
      await this.#source.changeState({ state: 'MOVING', copyId, runId }, { state: 'MOVED', copyId, runId });
      state = 'MOVED';
    }
    const arrived = await this.#target.readState();
    if (copyId === null || arrived.copyId !== copyId || (arrived.state !== 'RECEIVING' && arrived.state !== 'ACTIVE')) {
      throw new StorageMovedError(this.#source.shown, 'MOVED');
    }
    // A target may forget its last step in a power cut (appendfsync everysec), when the source remembers its own.
    if (state === 'MOVED' || arrived.state === 'RECEIVING') await this.#finish({ state, copyId, runId }, arrived);
    return { from: this.#source.backend, to: this.#target.backend, copied };
  }

  /** Takes the target, then fences the source: a target that refuses leaves the source in use. */
  async #begin(found: MoveState): Promise<MoveState> {
    const target = await this.#target.readState();
    const runId = randomUUID();
    const resumes = found.state === 'MOVING' && target.state === 'RECEIVING' && target.copyId === found.copyId;
    const copyId = resumes ? found.copyId : randomUUID();
    const moving: MoveState = { state: 'MOVING', copyId, runId };
    if (resumes) {
      // The source first: the call that was there before cannot declare it moved any more.
      await this.#source.changeState(found, moving);
      await this.#target.changeState(target, { state: 'RECEIVING', copyId, runId });
      return moving;
    }
    const free =
      target.state === 'ACTIVE' ||
      target.state === 'LEFT' ||
      target.state === 'RECEIVING' ||
      // The way back: what was moved out of the target is in use here, whoever forgot to say so.
      (target.state === 'MOVED' && found.state === 'ACTIVE' && found.copyId === target.copyId);
    if (!free || !(await this.#target.isEmpty())) throw new TargetNotEmptyError(this.#target.shown);
    await this.#target.changeState(target, { state: 'RECEIVING', copyId, runId });
    try {
      await this.#source.changeState(found, moving);
    } catch (error) {
      await this.#target.changeState({ state: 'RECEIVING', copyId, runId }, target);
      throw error;
    }
    return moving;
  }

  async #copyAll(receiving: MoveState): Promise<MoveReport['copied']> {
    // What a crashed call put there.
    await this.#target.wipe(receiving);
    const copied: Partial<Record<RecordKind, number>> = {};
    for (const kind of RECORD_KINDS) {
      const sent = new RecordDigest();
      for await (const batch of this.#source.read(kind)) {
        for (const record of batch) sent.add(kind, record);
        await this.#target.put(receiving, kind, batch);
      }
      const arrived = new RecordDigest();
      for await (const batch of this.#target.read(kind)) for (const record of batch) arrived.add(kind, record);
      if (sent.count !== arrived.count || sent.value !== arrived.value) throw new MoveVerificationError(kind);
      copied[kind] = sent.count;
    }
    return copied;
  }

  async #finish(moved: MoveState, arrived: MoveState): Promise<void> {
    await this.#source.wipe(moved);
    const active: MoveState = { ...arrived, state: 'ACTIVE' };
    if (!sameState(arrived, active)) await this.#target.changeState(arrived, active);
    this.#switchRecord();
    await this.#source.changeState(moved, { ...moved, state: 'LEFT' });
  }
}

/** A record that names one backend and keys in another would be a vault that looks empty. */
function checkBelongs(auto: AutoConfig, target: SqliteConfig | RedisConfig): void {
  const belongs =
    target.backend === 'sqlite'
      ? resolve(target.path) === resolve(auto.path)
      : target.url === auto.url && target.namespace === auto.namespace;
  if (!belongs) throw new InvalidArgumentError('to', 'must be one of the two storages of the auto config');
  if (readChoice(auto.path) === null) throw new InvalidArgumentError('from', 'must be a device that was opened before');
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
  if (same) throw new InvalidArgumentError('to', 'must be another storage than the source');
}
