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

/** Keys as hex. */
export interface RekeyOrder {
  readonly path: string;
  readonly from: string;
  readonly to: string;
}

/** 12 MB of pages, so that replacing them takes long enough to be met. */
const KEYS = 200;
const BLOB_BYTES = 60_000;
const SMALL_JOURNAL_BYTES = 100_000;
/** Kills that one round may need until one of them falls into its phase. */
const MAX_TRIES = 20;

/**
 * When the process is killed. `journal`: the old pages are being written to the journal. `pages`: the pages of the
 * file are being replaced, the first one is new. `end`: the journal is gone.
 */
const PHASES = ['pages', 'journal', 'pages', 'end'] as const;
type Phase = (typeof PHASES)[number];

/**
 * Kills a process that gives a storage another key, in every phase by turns. The storage must then open with exactly
 * one of the two keys, complete, whichever is tried first, and the repeated call must finish.
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
      for (const complaint of await inspect(order, first, keys))
        breaches.push(`round ${round} (${phase}): ${complaint}`);
      acknowledged += keys.length;
      onRound(round);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return { acknowledged, breaches };
}

async function fill({ path, from }: RekeyOrder): Promise<readonly NewVaultKey[]> {
  const { vault, close } = await openDeviceStorage({ backend: 'sqlite', path, key: Buffer.from(from, 'hex') });
  const keys = Array.from({ length: KEYS }, () => ({ ...newKey(), encryptedBlob: randomBytes(BLOB_BYTES) }));
  for (const key of keys) await vault.storeKey(key);
  await close();
  return keys;
}

/** Leaves the file, and its journal, as the killed process left them. */
async function killIn(phase: Phase, order: RekeyOrder, image: string): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    for (const name of readdirSync(join(order.path, '..'))) {
      if (name.startsWith('device.db')) rmSync(join(order.path, '..', name));
    }
    copyFileSync(image, order.path);
    const child = fork(join(__dirname, 'rekey-child.js'));
    await once(child, 'message');
    const ended = once(child, 'exit');
    child.send(order);
    let now: Sight = { phase: 'before', untouched: undefined };
    while (child.exitCode === null && now.phase !== phase) {
      await setImmediate();
      now = phaseOf(order.path, now);
    }
    child.kill('SIGKILL');
    await ended;
    if (phaseOf(order.path, now).phase === phase) return;
    if (tries === MAX_TRIES) throw new Error(`No kill out of ${tries} fell into the phase "${phase}".`);
  }
}

interface Sight {
  readonly phase: Phase | 'before';
  /** The time of the file's last change when its big journal was first seen. */
  readonly untouched: bigint | undefined;
}

function phaseOf(path: string, { untouched }: Sight): Sight {
  const journal = statSync(`${path}-journal`, { throwIfNoEntry: false })?.size ?? 0;
  const { size, mtimeNs } = statSync(path, { bigint: true });
  // A small journal is the one of leaving WAL, which comes before.
  if (journal > SMALL_JOURNAL_BYTES) {
    const changed = untouched !== undefined && untouched !== mtimeNs && BigInt(journal) >= size;
    return { phase: changed ? 'pages' : 'journal', untouched: untouched ?? mtimeNs };
  }
  return { phase: untouched === undefined ? 'before' : 'end', untouched };
}

async function inspect(order: RekeyOrder, first: 'from' | 'to', keys: readonly NewVaultKey[]): Promise<string[]> {
  const complaints: string[] = [];
  const opened: string[] = [];
  for (const name of first === 'from' ? (['from', 'to'] as const) : (['to', 'from'] as const)) {
    try {
      complaints.push(...(await missing(order.path, order[name], keys)));
      opened.push(name);
    } catch (error) {
      // Whoever comes with the other key is told so, and spoils nothing.
      if ((error as Error).name !== 'WrongKeyError') complaints.push(`with the key "${name}": ${error}`);
    }
  }
  if (opened.length !== 1) complaints.push(`opens with ${opened.length} of the two keys`);
  try {
    await rekeyDeviceStorage(order.path, Buffer.from(order.from, 'hex'), Buffer.from(order.to, 'hex'));
    complaints.push(...(await missing(order.path, order.to, keys)));
  } catch (error) {
    complaints.push(`the repeated call: ${error}`);
  }
  return complaints;
}

/** @throws the errors of opening */
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
