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
import type { AutoJob } from '../opening/auto-child';

const CHILD = compiled('device/test/opening/auto-child');
const KEY = bytes(32, 5);
const NO_REDIS = 'redis://127.0.0.1:1';
/** The choice itself changes fewer files; more would be a walk in circles. */
const MAX_BOUNDARIES = 30;

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

/** @returns what a process printed that opened the device, or null when it was killed before. */
async function open(job: AutoJob): Promise<{ backend: string; calls: string[] } | null> {
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
  const jobAt = (killAt: number): AutoJob => {
    const path = join(folder, `${backend}-${killAt}.db`);
    const url = backend === 'redis' ? server.url : NO_REDIS;
    return { path, key: [...KEY], url, namespace: path, killAt };
  };

  it('killed at any change of a file, leaves no choice or a whole one', async () => {
    let died = 0;
    for (let killAt = 1; ; killAt += 1) {
      if (killAt > MAX_BOUNDARIES) throw new Error('The opening does not end.');
      const job = jobAt(killAt);
      if ((await open(job)) !== null) break;
      died += 1;
      // Whoever comes next can open it, and two that come after each other, with and without Redis, agree.
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
    expect(died).toBeGreaterThan(3);
  });

  it('syncs the record before it gets its name, and the name before anything is stored', async () => {
    const job = jobAt(0);
    const opened = await open(job);
    expect(opened?.backend).toBe(backend);
    // A power cut cannot be tried here; that the syncs are made, in this order, can be seen.
    expect(opened?.calls.slice(0, 4)).toStrictEqual([
      'writeSync file',
      'fsyncSync file',
      'linkSync file',
      'fsyncSync folder',
    ]);
    expect(readdirSync(folder).filter((name) => name.startsWith(`${backend}-0.db.backend`))).toHaveLength(1);
  });
});
