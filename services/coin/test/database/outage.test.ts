import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { sql } from 'kysely';
import type { CallError } from '../../../../testkit/call';
import { BRONZE, GOLD, ids, mint } from '../../../../testkit/coins';
import { startService, type TestService } from '../../../../testkit/service';
import { type ServiceProcess, spawnMain, spawnService } from '../../../../testkit/service-process';
import { developmentUser, type User } from '../../../../testkit/user';

/**
 * The deadline of a call. A call that exceeds it fails with DEADLINE_EXCEEDED, which no test here
 * accepts.
 */
const DEADLINE_MS = 30_000;

/** The results of callers that fetch one coin after the other and repeat failed calls. */
interface Seen {
  readonly keyIds: string[];
  /** The number of answered calls. */
  served: number;
  /** The number of failed calls, and each different error once. */
  failed: number;
  readonly failures: Map<string, CallError>;
}

/**
 * `loops` callers fetch single coins and repeat each failed call with its request id, until `until`
 * settles.
 */
async function underLoad(
  loops: number,
  user: User,
  request: Parameters<User['fetch']>[0],
  until: (seen: Seen) => Promise<void>,
): Promise<Seen> {
  const seen: Seen = { keyIds: [], served: 0, failed: 0, failures: new Map() };
  let stopped = false;
  const fetchOne = async (): Promise<void> => {
    const requestId = randomUUID();
    // A failed call may have taken its coin, so it is repeated until it succeeds. The limit only
    // ends a failing test.
    for (let tries = 0; tries < 20_000; tries++) {
      try {
        const { coins } = await user.fetch({ ...request, count: 1, requestId }, DEADLINE_MS);
        seen.keyIds.push(...ids(coins));
        seen.served++;
        return;
      } catch (error) {
        const failure = error as CallError;
        seen.failures.set(`${failure.code} ${failure.reason}`, failure);
        seen.failed++;
      }
    }
    stopped = true;
  };
  const running = Array.from({ length: loops }, async () => {
    while (!stopped) await fetchOne();
  });
  try {
    await until(seen);
  } finally {
    stopped = true;
    await Promise.all(running);
  }
  return seen;
}

/** Waits until the condition holds. The limit only ends a failing test. */
async function eventually(condition: () => boolean): Promise<void> {
  const giveUp = Date.now() + 180_000;
  while (!condition()) {
    if (Date.now() > giveUp) throw new Error(`The condition did not become true: ${condition}`);
    await setTimeout(5);
  }
}

describe('the embedded PostgreSQL', () => {
  let dataDir: string;
  let first: ServiceProcess;
  let bob: User;

  const postmasterPid = () => Number.parseInt(readFileSync(join(dataDir, 'postgres/data/postmaster.pid'), 'utf8'), 10);
  beforeEach(async () => {
    dataDir = mkdtempSync(join(tmpdir(), 'aqm-outage-'));
    first = await spawnMain(dataDir, {});
    bob = await developmentUser(dataDir, first.address);
  });
  afterEach(async () => {
    bob.close();
    await first.stop();
  });

  test('is killed under load: calls fail at once with UNAVAILABLE and RetryInfo, and the same process recovers', async () => {
    const minted = mint(100);
    for (let i = 0; i < 5; i++) await bob.upload(i === 0 ? minted : mint(100, GOLD));
    const gold = { targetUserId: bob.id, coinCategory: GOLD };
    const seen = await underLoad(16, bob, gold, async (soFar) => {
      for (let kill = 0; kill < 3; kill++) {
        const before = { ...soFar };
        await eventually(() => soFar.served > before.served + 20);
        const pid = postmasterPid();
        process.kill(pid, 'SIGKILL');
        await eventually(() => soFar.failed > before.failed);
        const { served } = soFar;
        await eventually(() => soFar.served > served + 20);
        expect(postmasterPid()).not.toBe(pid);
      }
    });
    expect([...seen.failures.keys()]).toEqual(['UNAVAILABLE DATABASE_UNAVAILABLE']);
    for (const failure of seen.failures.values()) expect(failure.retryAfterMs).toBeGreaterThan(0);
    expect(new Set(seen.keyIds).size).toBe(seen.keyIds.length);
    // Repeats with the same request id lost no coin: all coins that are not in stock were answered.
    expect((await bob.count()).available?.gold).toBe(400 - seen.keyIds.length);
    expect(ids((await bob.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 20 })).coins)).toEqual(
      ids(minted.slice(0, 20)),
    );
    expect(await first.stop()).toBe(0);
  });
});

describe('an external database', () => {
  let service: TestService;
  let bob: User;

  beforeEach(async () => {
    service = await startService();
    bob = await service.user();
  });
  afterEach(() => service.stop());

  test('connections that break under load cost no coin, and the pool recovers', async () => {
    for (let i = 0; i < 5; i++) await bob.upload(mint(100));
    const seen = await underLoad(8, bob, { targetUserId: bob.id, coinCategory: BRONZE }, async (soFar) => {
      // A cut may hit only idle connections.
      for (let cut = 0; cut < 5 || soFar.failed === 0; cut++) {
        const { served } = soFar;
        await eventually(() => soFar.served > served + 20);
        await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid()`.execute(service.database.db);
      }
      const { served } = soFar;
      await eventually(() => soFar.served > served + 20);
    });
    expect([...seen.failures.keys()]).toEqual(['UNAVAILABLE DATABASE_UNAVAILABLE']);
    expect(new Set(seen.keyIds).size).toBe(seen.keyIds.length);
    expect((await bob.count()).available?.bronze).toBe(500 - seen.keyIds.length);
  });

  test('SIGTERM under load: every call is answered, no claim commits unanswered, exit code 0', async () => {
    for (let i = 0; i < 20; i++) await bob.upload(mint(50, i % 2 === 0 ? BRONZE : GOLD));
    const child = await spawnService(service);
    const callers = await Promise.all(Array.from({ length: 16 }, () => service.user({ address: child.address })));
    const got: string[] = [];
    const ends = new Set<string>();
    let answered = 0;
    const loops = callers.map(async (caller, loop) => {
      for (;;) {
        try {
          const coinCategory = loop % 2 === 0 ? BRONZE : GOLD;
          const { coins } = await caller.fetch({ targetUserId: bob.id, coinCategory, count: 1 });
          got.push(...ids(coins));
          answered++;
        } catch (error) {
          ends.add((error as CallError).code);
          return;
        }
      }
    });
    await eventually(() => answered > 100);
    const code = await child.stop();
    await Promise.all(loops);
    expect(code).toBe(0);
    expect([...ends]).toEqual(['UNAVAILABLE']);
    const { rows } = await sql<{ key_id: string }>`SELECT unnest(key_ids) AS key_id FROM coin_fetch`.execute(
      service.database.db,
    );
    expect(rows.map((row) => row.key_id).sort()).toEqual(got.sort());
  });
});
