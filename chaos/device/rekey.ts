import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { type NewVaultKey, openDeviceStorage, rekeyDeviceStorage } from '../../device';
import { newKey } from '../../testkit/device-contents';
import type { Verdict } from './history';

/** A request to change the key of a storage. Keys are in hex. */
export interface RekeyOrder {
  readonly path: string;
  readonly from: string;
  readonly to: string;
}

/** The file has 12 MB of pages, so that replacing them takes long enough for a kill to fall into it. */
const KEYS = 200;
const BLOB_BYTES = 60_000;
const SMALL_JOURNAL_BYTES = 100_000;
/** The maximum number of kills in a round, until one falls into its phase: on a busy machine, most of them do not. */
const MAX_TRIES = 500;

/**
 * The phases in which the process is killed. `journal`: the old pages are being written to the journal. `pages`: the
 * pages of the file are being replaced, and the first one is new. `end`: the journal has been deleted.
 */
const PHASES = ['pages', 'journal', 'pages', 'end'] as const;
type Phase = (typeof PHASES)[number];

/**
 * Kills a process that changes the key of a storage, in each phase alternately. Afterwards the storage must open with
 * exactly one of the two keys, complete, whichever is tried first, and the repeated call must succeed.
 */
export async function crashRekeys(rounds: number, onRound: (round: number) => void): Promise<Verdict> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-rekey-'));
  const image = join(folder, 'image');
  const order = { path: join(folder, 'device.db'), from: newHexKey(), to: newHexKey() };
  const breaches: string[] = [];
  let acknowledged = 0;
  try {
    const keys = await fill({ ...order, path: image });
    for (let round = 1; round <= rounds; round += 1) {
      const phase = PHASES[round % PHASES.length] ?? 'pages';
      await killIn(phase, order, image);
      const first = round % 2 === 0 ? ('from' as const) : ('to' as const);
      for (const problem of await inspect(order, first, keys)) breaches.push(`round ${round} (${phase}): ${problem}`);
      acknowledged += keys.length;
      onRound(round);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return { acknowledged, breaches };
}

/** Creates a storage with the old key, and returns its keys. */
async function fill({ path, from }: RekeyOrder): Promise<readonly NewVaultKey[]> {
  const { vault, close } = await openDeviceStorage({ backend: 'sqlite', path, key: Buffer.from(from, 'hex') });
  const keys = Array.from({ length: KEYS }, () => ({ ...newKey(), encryptedBlob: randomBytes(BLOB_BYTES) }));
  for (const key of keys) await vault.storeKey(key);
  await close();
  return keys;
}

/** Kills a process in a phase, and leaves the file and its journal as they are then. */
async function killIn(phase: Phase, order: RekeyOrder, image: string): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    for (const name of readdirSync(join(order.path, '..'))) {
      if (name.startsWith('device.db')) rmSync(join(order.path, '..', name));
    }
    copyFileSync(image, order.path);
    const child = fork(join(__dirname, 'rekey-child.js'));
    await once(child, 'message');
    const exited = once(child, 'exit');
    child.send(order);
    let observed: Observation = { phase: 'before', untouched: undefined };
    while (child.exitCode === null && observed.phase !== phase) {
      await setImmediate();
      observed = phaseOf(order.path, observed);
    }
    child.kill('SIGKILL');
    await exited;
    if (phaseOf(order.path, observed).phase === phase) return;
    if (tries === MAX_TRIES) throw new Error(`No kill out of ${tries} fell into the phase "${phase}".`);
  }
}

/** The phase of a change of keys, as its files show it. */
interface Observation {
  readonly phase: Phase | 'before';
  /** The time of the file's last change when its large journal was first seen. */
  readonly untouched: bigint | undefined;
}

function phaseOf(path: string, { untouched }: Observation): Observation {
  const journal = statSync(`${path}-journal`, { throwIfNoEntry: false })?.size ?? 0;
  const { size, mtimeNs } = statSync(path, { bigint: true });
  // A small journal belongs to the switch from WAL, which is made before.
  if (journal > SMALL_JOURNAL_BYTES) {
    const changed = untouched !== undefined && untouched !== mtimeNs && BigInt(journal) >= size;
    return { phase: changed ? 'pages' : 'journal', untouched: untouched ?? mtimeNs };
  }
  return { phase: untouched === undefined ? 'before' : 'end', untouched };
}

/** Opens the storage with both keys, repeats the change of keys, and returns the problems found. */
async function inspect(order: RekeyOrder, first: 'from' | 'to', keys: readonly NewVaultKey[]): Promise<string[]> {
  const problems: string[] = [];
  const opened: string[] = [];
  for (const name of first === 'from' ? (['from', 'to'] as const) : (['to', 'from'] as const)) {
    try {
      problems.push(...(await missing(order.path, order[name], keys)));
      opened.push(name);
    } catch (error) {
      // The other key gets this error, and changes nothing.
      if ((error as Error).name !== 'WrongKeyError') problems.push(`with the key "${name}": ${error}`);
    }
  }
  if (opened.length !== 1) problems.push(`opens with ${opened.length} of the two keys`);
  try {
    await rekeyDeviceStorage(order.path, Buffer.from(order.from, 'hex'), Buffer.from(order.to, 'hex'));
    problems.push(...(await missing(order.path, order.to, keys)));
  } catch (error) {
    problems.push(`the repeated call: ${error}`);
  }
  return problems;
}

/** Returns a description of every key that is missing or changed. @throws the errors of opening. */
async function missing(path: string, hexKey: string, keys: readonly NewVaultKey[]): Promise<string[]> {
  const { vault, close } = await openDeviceStorage({ backend: 'sqlite', path, key: Buffer.from(hexKey, 'hex') });
  try {
    const gone: string[] = [];
    for (const { keyId, encryptedBlob } of keys) {
      const entry = await vault.fetchKey(keyId);
      if (!entry || !Buffer.from(encryptedBlob).equals(entry.encryptedBlob)) gone.push(`${keyId} is gone or changed`);
    }
    return gone;
  } finally {
    await close();
  }
}

function newHexKey(): string {
  return randomBytes(32).toString('hex');
}
