import { randomUUID } from 'node:crypto';
import { CompiledQuery } from 'kysely';
import { startService, type TestService } from '../../../../testkit/service';
import { booleans, integers, smallints, uuids } from '../../database/binary-arrays';
import { run } from '../../database/connection';

let service: TestService;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.stop());

test.each([
  ['uuid[]', uuids, [randomUUID(), '00000000-0000-0000-0000-000000000000', 'FFFFFFFF-ffff-ffff-ffff-ffffffffffff']],
  ['integer[]', integers, [0, 1, -1, 2_147_483_647, -2_147_483_648]],
  ['smallint[]', smallints, [3, 0, -32_768, 32_767]],
  ['boolean[]', booleans, [true, false, true]],
  ['uuid[]', uuids, []],
  ['integer[]', integers, []],
] as const)('PostgreSQL decodes %s to the encoded values', async (type, write, values) => {
  const bytes = (write as typeof integers)(values as readonly number[], (value) => value);
  const [row] = await run<{ text: string; same: boolean }>(service.database.db, {
    compile: () =>
      CompiledQuery.raw(`SELECT $1::${type}::text AS text, $1::${type} = $2::text::${type} AS same`, [
        bytes,
        `{${values.join()}}`,
      ]) as CompiledQuery<{ text: string; same: boolean }>,
  });
  expect(row?.same).toBe(true);
  expect(row?.text.split(',')).toHaveLength(Math.max(1, values.length));
});
