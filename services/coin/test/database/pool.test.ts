import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { asAdmin, createDatabase, databaseSettings, type TestDatabase } from '../../../../testkit/test-database';
import { run } from '../../database/connection';
import { type Database, openDatabase, type PoolCounts } from '../../database/pool';
import { DatabaseUnavailableError } from '../../errors';
import { readIncarnation } from '../../fence/database-state';

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

describe('a server that grants fewer connections than the pool may have', () => {
  const role = `few_${randomUUID().replaceAll('-', '')}`;
  let db: Database;
  let pool: PoolCounts;
  beforeAll(async () => {
    await asAdmin(`CREATE ROLE ${role} LOGIN CONNECTION LIMIT 3`);
    const settings = databaseSettings(database.name);
    const connectionString = settings.connectionString.replace('user=postgres', `user=${role}`);
    db = openDatabase(
      { ...settings, connectionString, poolSize: 20 },
      () => {},
      undefined,
      (opened) => {
        pool = opened;
      },
    );
  });
  afterAll(async () => {
    await db.destroy();
    await asAdmin(`DROP ROLE ${role}`);
  });
  const user = () => run(db, sql<{ name: string }>`SELECT current_user::text AS name FROM pg_sleep(0.01)`);

  test('lets callers wait for those that there are', async () => {
    for (let round = 0; round < 5; round += 1) {
      const rows = await Promise.all(Array.from({ length: 40 }, user));
      expect(rows.flat()).toEqual(Array(40).fill({ name: role }));
      expect(pool.totalCount).toBeLessThanOrEqual(3);
    }
  });

  test('fails callers if it grants none', async () => {
    const other = openDatabase(
      {
        ...databaseSettings(database.name),
        connectionString: databaseSettings(database.name).connectionString.replace('user=postgres', `user=${role}`),
        poolSize: 20,
      },
      () => {},
    );
    const held = await Promise.all(Array.from({ length: 3 }, user));
    expect(held).toHaveLength(3);
    await expect(run(other, sql`SELECT 1`)).rejects.toThrow(DatabaseUnavailableError);
    await other.destroy();
  });
});

test('the check of each second fails while nothing can be written', async () => {
  const db = openDatabase({ ...databaseSettings(database.name), poolSize: 1 }, () => {});
  expect(await readIncarnation(db)).not.toBe('');
  await run(db, sql`SET default_transaction_read_only = on`);
  await expect(readIncarnation(db)).rejects.toThrow(DatabaseUnavailableError);
  // The session that was read only is not used again; a new one is opened after a pause.
  let incarnation = '';
  while (incarnation === '') incarnation = await readIncarnation(db).catch(() => '');
  await db.destroy();
});
