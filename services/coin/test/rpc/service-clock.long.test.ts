import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BRONZE, mint } from '../../../../testkit/coins';
import { startService, type TestService } from '../../../../testkit/service';
import { type ServiceProcess, spawnService } from '../../../../testkit/service-process';
import type { User } from '../../../../testkit/user';

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

let service: TestService;
let folder: string;
let process: ServiceProcess;
let bob: User;
beforeAll(async () => {
  service = await startService();
  folder = mkdtempSync(join(tmpdir(), 'aqm-clock-'));
});
afterEach(() => process.stop());
afterAll(async () => {
  await service.stop();
  rmSync(folder, { recursive: true });
});

/** Starts a service whose clock differs from the database's. */
async function start(aheadMs: number): Promise<void> {
  const shift = join(folder, 'shift.cjs');
  writeFileSync(
    shift,
    `const Real = Date;
globalThis.Date = class extends Real {
  constructor(...parts) { parts.length === 0 ? super(Real.now() + ${aheadMs}) : super(...parts); }
  static now() { return Real.now() + ${aheadMs}; }
};`,
  );
  process = await spawnService(service, { NODE_OPTIONS: `--require ${shift}` });
  // Token expiry is by the service's clock.
  bob = await service.user({ address: process.address, ttlSeconds: 30 * 86_400 });
}

test.each([
  ['6 minutes behind', -6 * MINUTE],
  ['6 minutes ahead of', 6 * MINUTE],
  ['26 hours behind', -26 * 60 * MINUTE],
  ['26 hours ahead of', 26 * 60 * MINUTE],
])('a service whose clock is %s the database, which alone decides when coins expire', async (_, aheadMs) => {
  await start(aheadMs);
  const now = Date.now();
  const latest = mint(1).map((coin) => ({ ...coin, expireTime: new Date(now + 23 * DAY) }));
  expect((await bob.upload(latest)).insertedCount).toBe(1);
  await expect(
    bob.upload(mint(1).map((coin) => ({ ...coin, expireTime: new Date(now + 23 * DAY + 10 * MINUTE) }))),
  ).rejects.toMatchObject({ reason: 'INVALID_FIELD', fields: ['coins[0].expire_time'] });
  expect((await bob.upload(mint(1))).insertedCount).toBe(1);
  const { coins } = await bob.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 2 });
  expect(coins).toHaveLength(2);
  for (const { expireTime } of coins) {
    expect(expireTime?.getTime()).toBeGreaterThanOrEqual(now + 23 * DAY);
    expect(expireTime?.getTime()).toBeLessThan(now + 23 * DAY + 5 * MINUTE);
  }
});
