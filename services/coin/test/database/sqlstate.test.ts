import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { asAdmin, databaseSettings, databaseUrl } from '../../../../testkit/test-database';
import { run } from '../../database/connection';
import { openDatabase } from '../../database/pool';
import { toStoreError } from '../../database/sqlstate';
import { DatabaseUnavailableError } from '../../errors';

const role = `test_${randomUUID().replaceAll('-', '')}`;
beforeAll(() => asAdmin(`CREATE ROLE ${role} NOLOGIN`));
afterAll(() => asAdmin(`DROP ROLE ${role}`));

test.each([
  ['a role that must not log in', databaseUrl('postgres').replace('user=postgres', `user=${role}`), 'not permitted'],
  ['a role that does not exist', databaseUrl('postgres').replace('user=postgres', 'user=nobody_here'), 'nobody_here'],
  ['a database that takes no connections', databaseUrl('template0'), 'not currently accepting connections'],
  ['a database that does not exist', databaseUrl('nothing_here'), 'nothing_here'],
])('%s is an outage that names its cause, not a bug', async (_what, connectionString, cause) => {
  const db = openDatabase({ ...databaseSettings('postgres'), connectionString, poolSize: 1 }, () => {});
  const error = await run(db, sql`SELECT 1`).catch((reason: unknown) => reason);
  await db.destroy();
  expect(error).toBeInstanceOf(DatabaseUnavailableError);
  expect(((error as Error).cause as Error).message).toContain(cause);
});

test('the cause names the failure of each address of a name', () => {
  // The error of net.connect for a name with two addresses, on none of which anything listens.
  const refused = new AggregateError(['::1', '127.0.0.1'].map((host) => new Error(`connect ECONNREFUSED ${host}:1`)));
  expect(refused.message).toBe('');
  const { cause } = toStoreError(refused) as Error;
  expect((cause as Error).message).toBe('connect ECONNREFUSED ::1:1; connect ECONNREFUSED 127.0.0.1:1');
});
