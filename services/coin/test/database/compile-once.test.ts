import { sql } from 'kysely';
import { createDatabase, type TestDatabase } from '../../../../testkit/test-database';
import { compileOnce, type ValueOf } from '../../database/compile-once';
import { run } from '../../database/connection';

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

test('a query that is compiled once binds the values of each call, wherever the builder or a template has them', async () => {
  let builds = 0;
  const sum = compileOnce((db, value: ValueOf<{ a: number; b: number }>) => {
    builds += 1;
    return db
      .selectNoFrom(sql<number>`${value('a')}::int + ${value('b')}::int + ${value('a')}::int`.as('sum'))
      .where(sql<number>`${value('b')}::int`, '>', value('a'))
      .where(sql<number>`${7}::int`, '=', 7);
  });
  expect(await run(database.serviceDb, sum({ a: 1, b: 20 }))).toEqual([{ sum: 22 }]);
  expect(await run(database.serviceDb, sum({ a: 3, b: 40 }))).toEqual([{ sum: 46 }]);
  expect(await run(database.serviceDb, sum({ a: 40, b: 3 }))).toEqual([]);
  expect(builds).toBe(1);
  expect(sum({ a: 1, b: 2 }).compile(database.db).sql).toBe(sum({ a: 3, b: 4 }).compile(database.db).sql);
});
