import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { RedisServer } from '../../../testkit/redis-server';
import { compiled } from '../../../testkit/root';
import { choicePath } from '../../backend-choice';
import { bytes, keyId, vaultKey } from '../../conformance/harness';
import { checkConfig } from '../../device-config';
import { UnreachableError } from '../../errors';
import {
  type AutoConfig,
  moveDeviceStorage,
  openDeviceStorage,
  type RedisConfig,
  type SqliteConfig,
} from '../../index';
import { openMoveEndpoint } from '../../open-move-endpoint';
import type { CopyJob } from './move-child';
import { CopyPlaces, digestsOf, fill } from './move-kit';

const CHILD = compiled('device/test/moving/move-child');
/** Every so many boundaries, a prime so that the loops over records are hit in different places; 1 is every one. */
const STRIDE = Number(process.env.AQM_COPY_STRIDE ?? 17);
const MAX_BOUNDARIES = 3_000;
const KEY = bytes(32, 9);

let server: RedisServer;
let places: CopyPlaces;
beforeAll(async () => {
  server = await RedisServer.start();
  places = new CopyPlaces(server);
});
afterAll(async () => {
  places.destroy();
  await server.destroy();
});

/** A device of its own for each kill point. */
class Round {
  readonly auto: AutoConfig;
  readonly sqlite: SqliteConfig;
  readonly redis: RedisConfig;

  constructor(name: string) {
    const common = { key: KEY, now: places.clock.now };
    const path = join(places.folder, `${name}.db`);
    const { url } = server;
    this.sqlite = { ...common, backend: 'sqlite', path };
    this.redis = { ...common, backend: 'redis', url, namespace: name };
    this.auto = { ...common, backend: 'auto', path, url, namespace: name };
  }
}

async function dieAt(job: CopyJob): Promise<'died' | 'done'> {
  const child = spawn(process.execPath, [CHILD, JSON.stringify(job)], { stdio: ['ignore', 'ignore', 'pipe'] });
  const [log, [code, signal]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  if (signal !== 'SIGKILL' && code !== 0) throw new Error(`Kill point ${job.killAt} ended with code ${code}: ${log}`);
  return signal === 'SIGKILL' ? 'died' : 'done';
}

/** The vault's state as a device that just opens itself would find it. */
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

/** Whether the target has come to be by the copy; not made when it is not there. */
async function canBeUsed(target: SqliteConfig | RedisConfig): Promise<boolean> {
  try {
    const side = await openMoveEndpoint(checkConfig(target), { mustExist: true });
    const { state, moveId } = await side.readState();
    await side.close();
    return state === 'ACTIVE' && moveId !== null;
  } catch (error) {
    if (error instanceof UnreachableError) return false;
    throw error;
  }
}

async function holdsNothing(source: SqliteConfig | RedisConfig): Promise<boolean> {
  return Object.values(await digestsOf(source)).every((digest) => digest.startsWith('0 '));
}

describe.each(['redis', 'sqlite'] as const)('a copy to %s, killed between any two steps', (side) => {
  it('loses nothing, never lets both be used, and is finished by the next call', async () => {
    const source = side === 'redis' ? 'sqlite' : 'redis';
    const plain = <T extends object>(config: T) => ({ ...config, key: [...KEY] });
    const outcomes = new Map<string, number>();
    const template = new Round(`template-${side}`);
    if (source === 'sqlite') {
      const storage = await openDeviceStorage(template.sqlite);
      await fill(storage, places.clock);
      await storage.close();
    }
    for (let killAt = 1; ; killAt += STRIDE) {
      if (killAt > MAX_BOUNDARIES) throw new Error('The copy does not end.');
      const round = new Round(`to-${side}-${killAt}`);
      if (source === 'sqlite') cpSync(template.sqlite.path, round.sqlite.path);
      const storage = await openDeviceStorage(round.auto);
      expect(storage.backend).toBe(source);
      if (source === 'redis') await fill(storage, places.clock);
      await storage.vault.storeKey(vaultKey(killAt + 10_000));
      await storage.close();
      const before = await digestsOf(round[source]);
      const to = side === 'redis' ? plain(round.redis) : plain(round.sqlite);
      const nowMs = places.clock.now().getTime();
      const end = await dieAt({ from: plain(round.auto), to, killAt, nowMs });

      // Exactly one of these: the source as it was; nothing at all; the target complete. Never an empty vault.
      const found = [await openingOf(round.auto), await openingOf(round[source])].join(', ');
      outcomes.set(found, (outcomes.get(found) ?? 0) + 1);
      expect(['14 keys, 14 keys', 'StorageMovedError, StorageMovedError', '14 keys, StorageMovedError']).toContain(
        found,
      );
      if (await canBeUsed(round[side])) expect(await holdsNothing(round[source])).toBe(true);
      if (end === 'died') await moveDeviceStorage(round.auto, round[side]);

      expect(await digestsOf(round[side])).toStrictEqual(before);
      expect(await holdsNothing(round[source])).toBe(true);
      expect(await openingOf(round[source])).toBe('StorageMovedError');
      expect(JSON.parse(readFileSync(choicePath(round.auto.path), 'utf8'))).toStrictEqual({ form: 1, backend: side });
      const again = await openDeviceStorage(round.auto);
      expect(await again.vault.burnKey(keyId(killAt + 10_000))).toBe(true);
      await again.close();
      if (end === 'done') break;
    }
    // The walk has met the source still in use, and both closed.
    expect([...outcomes.keys()]).toEqual(
      expect.arrayContaining(['14 keys, 14 keys', 'StorageMovedError, StorageMovedError']),
    );
  }, 600_000);
});
