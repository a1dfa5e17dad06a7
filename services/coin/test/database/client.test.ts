import { sql } from 'kysely';
import { eventually } from '../../../../testkit/eventually';
import { createDatabase, databaseSettings, type TestDatabase } from '../../../../testkit/test-database';
import { run } from '../../database/connection';
import { openDatabase } from '../../database/pool';
import { DatabaseUnavailableError } from '../../errors';

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

const backend = sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`;

/** Opens one connection, not through a pooler. */
const open = (statementTimeoutMs: number) =>
  openDatabase({ ...databaseSettings(database.name), poolSize: 1, statementTimeoutMs }, () => {});

test('a statement fails when the server does not respond, and its connection is not used again', async () => {
  const db = open(200);
  const [{ pid } = { pid: 0 }] = await run(db, backend);
  process.kill(pid, 'SIGSTOP');
  try {
    await expect(run(db, sql`SELECT 1`)).rejects.toThrow(DatabaseUnavailableError);
    expect((await run(db, backend))[0]?.pid).not.toBe(pid);
  } finally {
    process.kill(pid, 'SIGCONT');
    await db.destroy();
  }
});

test('a statement whose response is given up is cancelled', async () => {
  const db = open(200);
  await run(db, sql`SET statement_timeout = 0`);
  await expect(run(db, sql`SELECT pg_sleep(3600)`)).rejects.toThrow(DatabaseUnavailableError);
  await eventually('the statement is gone', async () => {
    const running = await run(database.db, sql`SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3600)'`);
    return running.length === 0;
  });
  await db.destroy();
});

test('a response that arrives while the process is stopped is not late', async () => {
  const db = open(200);
  await run(db, sql`SET statement_timeout = 0`);
  const answer = run(db, sql`SELECT pg_sleep(0.2)`);
  await eventually('the statement was sent', async () => {
    const sent = await run(database.db, sql`SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(0.2)'`);
    return sent.length === 1;
  });
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1400);
  expect(await answer).toHaveLength(1);
  await db.destroy();
});

test('a connection to a server that became read only is not used again', async () => {
  const db = open(5000);
  const [{ pid } = { pid: 0 }] = await run(db, backend);
  await run(db, sql`SET default_transaction_read_only = on`);
  await expect(run(db, sql`CREATE TABLE t ()`)).rejects.toThrow(DatabaseUnavailableError);
  // A new connection is opened after a pause.
  const other = await eventually('there is another connection', () => run(db, backend).catch(() => undefined));
  expect(other[0]?.pid).not.toBe(pid);
  await db.destroy();
});
