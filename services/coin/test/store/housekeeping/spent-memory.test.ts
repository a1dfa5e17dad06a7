import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { sql } from 'kysely';
import { CoinUploadResult_Outcome as Outcome } from '../../../../../gen/aqm/coin/v1/coin_service';
import { BRONZE, ids, mint } from '../../../../../testkit/coins';
import { type ServiceProcess, spawnMain } from '../../../../../testkit/service-process';
import { databaseSettings } from '../../../../../testkit/test-database';
import { developmentUser, type User } from '../../../../../testkit/user';
import { openDatabase } from '../../../database/pool';
import { forgetSpent } from '../../../store/housekeeping/forget-spent';

test('a spent coin stays SPENT after its hard delete and after every restart, until its id is forgotten', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'aqm-spent-'));
  const userId = randomUUID();
  const start = () => spawnMain(dataDir, { AQM_FETCH_GRACE: '1' });
  const connect = ({ address }: ServiceProcess) => developmentUser(dataDir, address, userId);
  const coins = mint(3);
  const outcomes = async (user: User) => (await user.upload(coins)).results.map((result) => result.outcome);

  let service = await start();
  let bob = await connect(service);
  await bob.upload(coins);
  const fetched = await bob.fetch({ targetUserId: userId, coinCategory: BRONZE, count: 2 });
  expect(ids(fetched.coins)).toEqual(ids(coins.slice(0, 2)));
  // The grace is one second.
  while ((await bob.hardDelete()) === 0) await setTimeout(50);
  const spent = [Outcome.OUTCOME_SPENT, Outcome.OUTCOME_SPENT, Outcome.OUTCOME_ALREADY_PRESENT];
  expect(await outcomes(bob)).toEqual(spent);

  // The embedded PostgreSQL stops with its only user.
  bob.close();
  service.child.kill('SIGTERM');
  await once(service.child, 'exit');
  service = await start();
  bob = await connect(service);
  expect(await outcomes(bob)).toEqual(spent);

  const socket = encodeURIComponent(join(dataDir, 'postgres/socket'));
  const connectionString = `postgresql:///aqm?host=${socket}&port=5432&user=postgres`;
  const db = openDatabase({ ...databaseSettings('aqm'), connectionString, poolSize: 1 }, () => {});
  const age = (by: string) => sql`UPDATE coin SET expire_time = expire_time - ${by}::interval`.execute(db);
  await age(`${23 + 7} days -1 minute`);
  expect(await forgetSpent(db)).toBe(0);
  expect(await outcomes(bob)).toEqual(spent);
  await age('2 minutes');
  expect(await forgetSpent(db)).toBe(2);
  expect(await outcomes(bob)).toEqual([
    Outcome.OUTCOME_INSERTED,
    Outcome.OUTCOME_INSERTED,
    Outcome.OUTCOME_ALREADY_PRESENT,
  ]);
  await db.destroy();
  bob.close();
  expect(await service.stop()).toBe(0);
});
