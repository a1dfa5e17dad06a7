import { sql } from 'kysely';
import { createDatabase, databaseSettings, type TestDatabase } from '../../../../testkit/test-database';
import { openDatabase, run } from '../../database/pool';
import { DatabaseUnavailableError } from '../../errors';

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

/** One connection, past any pooler. */
const open = (statementTimeoutMs: number) =>
  openDatabase({ ...databaseSettings(database.name), poolSize: 1, statementTimeoutMs }, () => {});

test('a server that does not answer is not waited for for ever', async () => {
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
