import { sql } from 'kysely';
import { createDatabase, databaseSettings, type TestDatabase } from '../../../../testkit/test-database';
import { run } from '../../database/connection';
import { openDatabase } from '../../database/pool';
import { DatabaseUnavailableError } from '../../errors';

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

/** Opens one connection, not through a pooler. */
const open = (statementTimeoutMs: number) =>
  openDatabase({ ...databaseSettings(database.name), poolSize: 1, statementTimeoutMs }, () => {});

test('a statement fails when the server does not respond', async () => {
  const db = open(200);
  const [{ pid } = { pid: 0 }] = await run(db, sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`);
  process.kill(pid, 'SIGSTOP');
  try {
    await expect(run(db, sql`SELECT 1`)).rejects.toThrow(DatabaseUnavailableError);
  } finally {
    process.kill(pid, 'SIGCONT');
    await db.destroy();
  }
});
