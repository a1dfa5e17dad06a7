import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import pino from 'pino';
import { runCommand } from '../../../../testkit/command';
import {
  asAdmin,
  createDatabase,
  databaseUrl,
  MIGRATIONS,
  serviceSettings,
  type TestDatabase,
} from '../../../../testkit/test-database';
import { readConfig } from '../../config';
import { type MigrationProgress, migrateUp, schemaState } from '../../database/migrate';
import { openPostgres } from '../../database/open';
import { prepareDatabase } from '../../database/preflight';
import { withMigration } from './migrations-with';

let database: TestDatabase;
beforeEach(async () => {
  database = await createDatabase('empty');
});
afterEach(() => database.drop());

describe('a migration that takes longer than all timeouts', () => {
  /** Opens the database as a service or command with the shortest timeouts does. */
  const open = () =>
    openPostgres(
      {
        ...serviceSettings(database.name),
        databaseUrl: serviceSettings(database.name).connectionString,
        readDatabaseUrl: undefined,
        dataDir: '',
        postgresPackage: undefined,
        statementTimeoutMs: 100,
        lockTimeoutMs: 100,
      },
      pino({ level: 'silent' }),
    );
  /** Resolves after `count` reports of a process; the client's own timeout would end it after 11. */
  function reports(count: number) {
    const received: MigrationProgress[] = [];
    let done = () => {};
    const enough = new Promise<void>((resolve) => {
      done = resolve;
    });
    const onProgress = (progress: MigrationProgress) => {
      received.push(progress);
      if (received.length === count) done();
    };
    return { received, enough, options: { onProgress, reportIntervalMs: 100 } };
  }

  test('runs to its end and reports its progress, and a second process waits for it and reports that', async () => {
    const folder = withMigration('SELECT pg_advisory_xact_lock(42)');
    const [first, second] = [await open(), await open()];
    const [running, waiting] = [reports(15), reports(15)];
    await database.db.connection().execute(async (holder) => {
      await sql`SELECT pg_advisory_lock(42)`.execute(holder);
      const migrating = first.withLongTimeouts((db) => migrateUp(db, folder, running.options));
      await Promise.race([running.enough, migrating]);
      const other = second.withLongTimeouts((db) => migrateUp(db, folder, waiting.options));
      await Promise.race([waiting.enough, other]);
      await sql`SELECT pg_advisory_unlock(42)`.execute(holder);
      expect(await migrating).toContain('9999_test');
      expect(await other).toEqual([]);
    });
    for (const one of [first, second]) await one.close();
    expect(running.received).toContainEqual({
      migration: '9999_test',
      seconds: expect.any(Number),
      doing: expect.stringMatching(/^waits for a lock of the process \d+ of PostgreSQL$/),
    });
    expect(waiting.received.at(-1)).toMatchObject({ migration: undefined });
    expect(await schemaState(database.db, folder)).toEqual({ state: 'current' });
  });

  test('a service that starts on an older schema meanwhile waits for it instead of ending', async () => {
    await migrateUp(database.db, MIGRATIONS);
    const folder = withMigration('SELECT 1');
    const service = await open();
    const settings = serviceSettings(database.name);
    const { pooler = 'none' } = settings;
    // Through a pooler the timeouts are those of the role.
    const { idleInTransactionTimeoutMs } = readConfig({});
    const timeouts =
      pooler === 'none' ? { statementTimeoutMs: 100, lockTimeoutMs: 100 } : { ...settings, idleInTransactionTimeoutMs };
    const required = { ...timeouts, migrationsDir: folder, pooler };
    const prepare = () => prepareDatabase(service, required, pino({ level: 'silent' }));
    await expect(prepare()).rejects.toThrow('9999_test did not run yet. Run "aqm migrate".');
    let prepared: Promise<void> | undefined;
    await database.db.transaction().execute(async (other) => {
      await sql`SELECT pg_advisory_xact_lock(3853314791062309107)`.execute(other);
      prepared = prepare();
      const tries = sql<{ tries: number }>`
SELECT count(*)::int AS tries FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE '%pg_try_advisory_xact_lock%' AND pid <> pg_backend_pid()`;
      const seen = async () => (await tries.execute(database.db)).rows[0]?.tries ?? 0;
      await Promise.race([
        prepared,
        (async () => {
          while ((await seen()) === 0);
        })(),
      ]);
      const stop = new AbortController();
      const stopped = prepareDatabase(service, required, pino({ level: 'silent' }), stop.signal);
      stop.abort(new Error('the process was stopped'));
      await expect(stopped).rejects.toThrow('the process was stopped');
      await sql`INSERT INTO kysely_migration VALUES ('9999_test', ${new Date().toISOString()})`.execute(other);
    });
    await prepared;
    await service.close();
  });
});

describe('a role without the right to create tables', () => {
  const role = `test_${randomUUID().replaceAll('-', '')}`;
  const as = (query: string) => databaseUrl(database.name).replace('user=postgres', `user=${role}${query}`);
  beforeEach(() => asAdmin(`CREATE ROLE ${role} LOGIN`));
  afterEach(async () => {
    await database.drop();
    database = await createDatabase('empty');
    await asAdmin(`DROP ROLE ${role}`);
  });

  test.each([
    ['no right on the schema public', '', 'permission denied for schema public: the role'],
    ['no schema', '&options=-c%20search_path%3Dapp', 'no schema of the search_path of the role'],
  ])('gets a sentence with the remedy: %s', async (_what, query, sentence) => {
    const env = { ...database.env, DATABASE_URL: as(query), AQM_POOLER: 'none' };
    const dataDir = mkdtempSync(join(tmpdir(), 'aqm-rights-'));
    for (const result of [
      await runCommand('migrate', [], env),
      await runCommand('serve', [], { ...env, AQM_LISTEN: '127.0.0.1:0', AQM_DATA_DIR: dataDir }),
    ]) {
      expect(result.code).toBe(1);
      expect(result.stderr).toContain(`The database cannot be migrated: ${sentence}`);
      expect(result.stderr).toContain('To correct it, ');
      expect(result.stderr).not.toContain('    at ');
    }
    const checks = await runCommand('doctor', ['--json'], { ...env, AQM_DATA_DIR: dataDir });
    expect(checks.code).toBe(1);
    expect(JSON.parse(checks.stdout).checks).toContainEqual(
      expect.objectContaining({ name: 'schema', verdict: 'fail', found: expect.stringContaining(sentence) }),
    );
    rmSync(dataDir, { recursive: true });
  });
});
