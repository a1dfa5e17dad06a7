import { sql } from 'kysely';
import pino from 'pino';
import { databaseSettings, databaseUrl, postgresOfRun } from '../../../../testkit/test-database';
import { run } from '../../database/connection';
import { openPostgres } from '../../database/open';

const given = process.env.PGSSLMODE;
beforeAll(postgresOfRun);
afterEach(() => {
  if (given === undefined) delete process.env.PGSSLMODE;
  else process.env.PGSSLMODE = given;
});

test.each([
  ['PGSSLMODE', 'require', ''],
  ['the URL', '', '&sslmode=verify-full'],
])('a Unix socket is used without TLS, although %s asks for it, as libpq does', async (_what, mode, query) => {
  process.env.PGSSLMODE = mode;
  const postgres = await openPostgres(
    {
      ...databaseSettings('postgres'),
      databaseUrl: `${databaseUrl('postgres')}${query}`,
      readDatabaseUrl: undefined,
      dataDir: '',
      postgresPackage: undefined,
    },
    pino({ level: 'silent' }),
  );
  expect(await run(postgres.db, sql`SELECT 1 AS one`)).toEqual([{ one: 1 }]);
  await postgres.close();
});
