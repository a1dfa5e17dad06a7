import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { sql } from 'kysely';
import { Cluster } from '../../../../testkit/postgres-cluster';
import { asAdmin, databaseSettings, databaseUrl } from '../../../../testkit/test-database';
import { PausedError, ReconnectBackoff } from '../../database/backoff';
import { run } from '../../database/connection';
import { type Database, openDatabase } from '../../database/pool';
import { DatabaseUnavailableError } from '../../errors';

const POOL_SIZE = 8;

describe('after a failure', () => {
  let now: number;
  let reconnect: ReconnectBackoff;
  /** Attempts in progress, which the test ends. */
  let tried: ((error?: Error) => void)[];
  let refused: number;

  beforeEach(() => {
    now = 0;
    reconnect = new ReconnectBackoff(
      () => now,
      () => 0.5,
    );
    tried = [];
    refused = 0;
  });

  const down = new Error('refused');
  const attempt = () =>
    new Promise<void>((resolve) => {
      reconnect.attempt(
        (end) => {
          tried.push(end);
          resolve();
        },
        (error) => {
          if (error instanceof PausedError) refused += 1;
          resolve();
        },
      );
    });

  test('there is a pause without attempts, which doubles up to a second, and then one attempt', async () => {
    await attempt();
    tried.pop()?.(down);
    for (const pauseMs of [50, 100, 200, 400, 800, 1000, 1000]) {
      // Three quarters: the half that is fixed, and half of the random half.
      now += 0.75 * pauseMs - 1;
      await attempt();
      expect(tried).toHaveLength(0);
      now += 1;
      await Promise.all([attempt(), attempt(), attempt()]);
      expect(tried).toHaveLength(1);
      tried.pop()?.(down);
    }
    expect(refused).toBe(7 + 7 * 2);
  });

  test('a success lets all callers connect, and the next pause is short again', async () => {
    for (let failure = 0; failure < 6; failure += 1) {
      now += 1000;
      await attempt();
      tried.pop()?.(down);
    }
    now += 1000;
    await attempt();
    tried.pop()?.();
    await Promise.all([attempt(), attempt(), attempt()]);
    expect(tried).toHaveLength(3);
    // These attempts ran at the same time: one failure, one short pause.
    for (const end of tried.splice(0)) end(down);
    now += 38;
    await attempt();
    expect(tried).toHaveLength(1);
  });
});

describe('a PostgreSQL that is stopped', () => {
  let folder: string;
  let cluster: Cluster;
  let relay: Server;
  let db: Database;
  /** The number of connections that were attempted. */
  let connections = 0;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'aqm-reconnect-'));
    cluster = new Cluster(folder);
    await cluster.init();
    await cluster.start();
    relay = createServer((client) => {
      connections += 1;
      joinSockets(client, connect(join(cluster.socketFolder, '.s.PGSQL.5432')));
    });
    await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
    const { port } = relay.address() as { port: number };
    const connectionString = `postgresql://postgres@127.0.0.1:${port}/postgres`;
    db = openDatabase({ ...databaseSettings('postgres'), connectionString, poolSize: POOL_SIZE }, () => {});
  });
  afterAll(async () => {
    await db.destroy();
    relay.close();
    await cluster.stop();
    rmSync(folder, { recursive: true });
  });

  function joinSockets(one: Socket, other: Socket): void {
    for (const [from, to] of [
      [one, other],
      [other, one],
    ] as const) {
      from.on('data', (bytes) => to.write(bytes));
      from.on('error', () => to.destroy());
      from.on('close', () => to.destroy());
    }
  }

  const query = () => run(db, sql`SELECT 1`);

  test('receives few attempts while calls fail at once, and is found by the first calls after its restart', async () => {
    await Promise.all(Array.from({ length: POOL_SIZE }, query));
    await cluster.stop();
    // Open connections end first.
    while ((await query().catch(() => undefined)) !== undefined);
    connections = 0;
    const start = performance.now();
    const failures: unknown[] = [];
    while (failures.length < 2000) {
      await Promise.all(Array.from({ length: 20 }, () => query().catch((error: unknown) => failures.push(error))));
    }
    // Before the first failure as many at once as the pool has. Then one after each pause of at
    // least 25, 50, 100, 200, 400 and then 500 ms, whatever the number of calls.
    expect(connections).toBeLessThanOrEqual(POOL_SIZE + 6 + (performance.now() - start) / 500);
    for (const failure of failures) expect(failure).toBeInstanceOf(DatabaseUnavailableError);

    await cluster.start();
    connections = 0;
    while ((await query().catch(() => undefined)) === undefined) await setImmediate();
    // The first attempt succeeds.
    expect(connections).toBe(1);
  });
});

describe('a PostgreSQL that refuses the login', () => {
  const role = `role_${randomUUID().replaceAll('-', '')}`;
  const url = (user: string, database: string) => databaseUrl(database).replace('user=postgres', `user=${user}`);

  beforeAll(() => asAdmin(`CREATE ROLE ${role} NOLOGIN`));
  afterAll(() => asAdmin(`DROP ROLE ${role}`));

  test.each([
    ['a role that may not log in', url(role, 'postgres'), '28000'],
    ['a database that does not exist', url('postgres', 'nothing'), '3D000'],
  ])('for %s is an outage to callers, and its reason is reported once', async (_what, connectionString, code) => {
    const reported: unknown[] = [];
    const refusing = openDatabase({ ...databaseSettings('postgres'), connectionString }, (error, wasOpen) =>
      reported.push({ error, wasOpen }),
    );
    for (let n = 0; n < 3; n += 1) {
      await expect(run(refusing, sql`SELECT 1`)).rejects.toThrow(DatabaseUnavailableError);
    }
    expect(reported).toMatchObject([{ error: { code }, wasOpen: false }]);
    const { cause } = await run(refusing, sql`SELECT 1`).then(
      () => new Error('the login was accepted'),
      (error: Error) => error,
    );
    // The reason is also known to those who were refused without an attempt.
    expect(cause instanceof PausedError ? cause.cause : cause).toMatchObject({ code });
    await refusing.destroy();
  });
});
