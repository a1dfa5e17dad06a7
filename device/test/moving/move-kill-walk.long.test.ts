import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { RedisServer } from '../../../testkit/redis-server';
import { compiled } from '../../../testkit/root';
import { choicePath } from '../../backend-choice';
import { bytes, vaultKey } from '../../conformance/harness';
import { checkConfig } from '../../device-config';
import { StorageMissingError, UnreachableError } from '../../errors';
import {
  type AutoConfig,
  moveDeviceStorage,
  type NewVaultKey,
  openDeviceStorage,
  type RedisConfig,
  type SqliteConfig,
} from '../../index';
import { openMoveEndpoint } from '../../open-move-endpoint';
import { chooseKillPoints, type KillPoint } from '../kill-walk/kill-points';
import type { MoveJob } from './move-child';
import { digestsOf, fill, Locations } from './move-kit';

const CHILD = compiled('device/test/moving/move-child');
/** A full run kills at every 17th boundary. `MOVE_STRIDE=1` kills at each, which takes some 6 minutes. */
const STRIDE = Number(process.env.MOVE_STRIDE || 17);
const KEY = bytes(32, 9);
/** Far longer than a full walk takes, which has about 800 kill points of half a second each. */
const LONGEST_WALK_MS = 3_600_000;
const SOURCE_IN_USE = '14 keys, 14 keys';
const BOTH_CLOSED = 'StorageMovedError, StorageMovedError';

let server: RedisServer;
let locations: Locations;
beforeAll(async () => {
  server = await RedisServer.start();
  locations = new Locations(server);
});
afterAll(async () => {
  locations.destroy();
  await server.destroy();
});

/** The configurations of a kill point's device: as its application opens it, and as either backend does. */
class Device {
  readonly auto: AutoConfig;
  readonly sqlite: SqliteConfig;
  readonly redis: RedisConfig;

  constructor(name: string) {
    const common = { key: KEY, now: locations.clock.now };
    const path = join(locations.folder, `${name}.db`);
    const { url } = server;
    this.sqlite = { ...common, backend: 'sqlite', path };
    this.redis = { ...common, backend: 'redis', url, namespace: name };
    this.auto = { ...common, backend: 'auto', path, url, namespace: name };
  }
}

/** Runs a move in a process. Returns the kinds of its boundaries, or null if the process was killed. */
async function moveInChild(job: MoveJob): Promise<string[] | null> {
  const child = spawn(process.execPath, [CHILD, JSON.stringify(job)], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [output, log, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ]);
  if (signal === 'SIGKILL') return null;
  if (code !== 0) throw new Error(`Kill point ${job.killAt} ended with code ${code}: ${log}`);
  return JSON.parse(output);
}

/** Returns the number of keys that an application would find if it opened the device, or the error's name. */
async function openingOf(config: AutoConfig | SqliteConfig | RedisConfig): Promise<string> {
  try {
    const storage = await openDeviceStorage(config);
    const ids = await storage.vault.listKeyIds();
    await storage.close();
    return `${ids.length} keys`;
  } catch (error) {
    return error instanceof Error ? error.name : String(error);
  }
}

/** Returns true if the move has made the target usable. Does not create a target that is not there. */
async function canBeUsed(target: SqliteConfig | RedisConfig): Promise<boolean> {
  try {
    const endpoint = await openMoveEndpoint(checkConfig(target), { mustExist: true });
    const { state, moveId } = await endpoint.readState();
    await endpoint.close();
    return state === 'ACTIVE' && moveId !== null;
  } catch (error) {
    if (error instanceof UnreachableError || error instanceof StorageMissingError) return false;
    throw error;
  }
}

async function holdsNothing(source: SqliteConfig | RedisConfig): Promise<boolean> {
  return Object.values(await digestsOf(source)).every((digest) => digest.startsWith('0 '));
}

describe.each(['redis', 'sqlite'] as const)('a move to %s, killed between any two steps', (target) => {
  const source = target === 'redis' ? 'sqlite' : 'redis';
  let template: Device;
  beforeAll(async () => {
    template = new Device(`template-${target}`);
    if (source === 'redis') return;
    const storage = await openDeviceStorage(template.sqlite);
    await fill(storage, locations.clock);
    await storage.close();
  });

  /** Creates a filled device in the source, with one key more: the given one. */
  async function filledSource(name: string, key: NewVaultKey): Promise<Device> {
    const device = new Device(name);
    if (source === 'sqlite') cpSync(template.sqlite.path, device.sqlite.path);
    const storage = await openDeviceStorage(device.auto);
    expect(storage.backend).toBe(source);
    if (source === 'redis') await fill(storage, locations.clock);
    await storage.vault.storeKey(key);
    await storage.close();
    return device;
  }

  function jobOf(device: Device, killAt: KillPoint | null): MoveJob {
    const plain = <T extends object>(config: T) => ({ ...config, key: [...KEY] });
    const to = target === 'redis' ? plain(device.redis) : plain(device.sqlite);
    return { from: plain(device.auto), to, killAt, nowMs: locations.clock.now().getTime() };
  }

  it(
    'loses nothing, never lets both storages be used, and is finished by the next call',
    async () => {
      const outcomes = new Set<string>();
      const whole = await filledSource(`to-${target}`, vaultKey(10_000));
      const boundaries = await moveInChild(jobOf(whole, null));
      expect(boundaries?.length).toBeGreaterThan(100);
      const points = chooseKillPoints(boundaries ?? [], { fullRunStride: STRIDE, commits: false });
      let lived = 0;
      for (const [index, killAt] of points.entries()) {
        const key = vaultKey(index + 10_001);
        const device = await filledSource(`to-${target}-${index}`, key);
        const before = await digestsOf(device[source]);
        const isKilled = (await moveInChild(jobOf(device, killAt))) === null;
        if (!isKilled) lived += 1;

        // One of these holds: the source is as it was; neither can be opened; the target is complete. No vault is
        // empty.
        const found = [await openingOf(device.auto), await openingOf(device[source])].join(', ');
        outcomes.add(found);
        expect([SOURCE_IN_USE, BOTH_CLOSED, '14 keys, StorageMovedError']).toContain(found);
        if (await canBeUsed(device[target])) expect(await holdsNothing(device[source])).toBe(true);
        if (isKilled) await moveDeviceStorage(device.auto, device[target]);

        expect(await digestsOf(device[target])).toStrictEqual(before);
        expect(await holdsNothing(device[source])).toBe(true);
        expect(await openingOf(device[source])).toBe('StorageMovedError');
        const choice: unknown = JSON.parse(readFileSync(choicePath(device.auto.path), 'utf8'));
        expect(choice).toStrictEqual({ form: 1, backend: target });
        const again = await openDeviceStorage(device.auto);
        expect(await again.vault.burnKey(key.keyId)).toBe(true);
        await again.close();
      }
      // The walk has met a source that was still in use, and two closed storages.
      expect([...outcomes]).toEqual(expect.arrayContaining([SOURCE_IN_USE, BOTH_CLOSED]));
      // A move asks Redis repeatedly whether it has rewritten its files, so a later move may have fewer of these steps.
      expect(lived).toBeLessThan(points.length / 4);
    },
    LONGEST_WALK_MS,
  );
});
