import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { RedisServer } from '../../../testkit/redis-server';
import { compiled } from '../../../testkit/root';
import { bytes } from '../../conformance/harness';
import { openDeviceStorage } from '../../index';
import type { AutoJob, AutoOpening } from '../opening/auto-child';
import { chooseKillPoints, type KillPoint } from './kill-points';

const CHILD = compiled('device/test/opening/auto-child');
const KEY = bytes(32, 5);
const NO_REDIS = 'redis://127.0.0.1:1';

let server: RedisServer;
let folder: string;
beforeAll(async () => {
  server = await RedisServer.start();
  folder = mkdtempSync(join(tmpdir(), 'aqm-auto-walk-'));
});
afterAll(async () => {
  await server.destroy();
  rmSync(folder, { recursive: true });
});

/** Opens a device in a process. Returns null if the process was killed before the device was open. */
async function open(job: AutoJob): Promise<AutoOpening | null> {
  const child = spawn(process.execPath, [CHILD, JSON.stringify(job)], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [output, log, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ]);
  if (signal === 'SIGKILL') return null;
  if (code !== 0) throw new Error(`Boundary ${job.killAt} ended with code ${code}: ${log}`);
  return JSON.parse(output);
}

describe.each(['redis', 'sqlite'] as const)('a first opening that chooses %s', (backend) => {
  const jobAt = (killAt: KillPoint | null): AutoJob => {
    const path = join(folder, `${backend}-${killAt?.replace(' ', '-') ?? 'lives'}.db`);
    const url = backend === 'redis' ? server.url : NO_REDIS;
    return { path, key: [...KEY], url, namespace: path, killAt };
  };

  it('killed at any change of a file, leaves no choice or a whole one', async () => {
    const points = chooseKillPoints((await open(jobAt(null)))?.boundaries ?? []);
    expect(points.length).toBeGreaterThan(3);
    for (const killAt of points) {
      const job = jobAt(killAt);
      expect(await open(job)).toBeNull();
      // The next process can open it, and two later ones agree, one with Redis and one without.
      const config = { backend: 'auto', path: job.path, key: KEY, namespace: job.namespace } as const;
      const next = await openDeviceStorage({ ...config, url: server.url });
      const expected = next.backend;
      await next.close();
      const again = openDeviceStorage({ ...config, url: NO_REDIS });
      if (expected === 'redis') await expect(again).rejects.toMatchObject({ name: 'UnreachableError' });
      else {
        expect((await again).backend).toBe('sqlite');
        await (await again).close();
      }
    }
  });

  it('syncs the record before it gets its name, and the name before anything is stored', async () => {
    const opened = await open({ ...jobAt(null), path: join(folder, `${backend}-synced.db`) });
    expect(opened?.backend).toBe(backend);
    // A power cut cannot be tried here, but the test can see that the syncs are made, and in this order.
    expect(opened?.calls.slice(0, 4)).toStrictEqual([
      'writeSync file',
      'fsyncSync file',
      'linkSync file',
      'fsyncSync folder',
    ]);
    expect(readdirSync(folder).filter((name) => name.startsWith(`${backend}-synced.db.backend`))).toHaveLength(1);
  });
});
