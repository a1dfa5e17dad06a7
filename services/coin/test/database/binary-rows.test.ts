import { sql } from 'kysely';
import { createDatabase, type TestDatabase } from '../../../../testkit/test-database';
import { run } from '../../database/connection';
import type { Database } from '../../database/pool';

/** Values as SQL expressions, for every type that our statements return. */
const VALUES: Readonly<Record<string, readonly string[]>> = {
  boolean: ['true', 'false'],
  smallint: ['-32768', '0', '3', '32767'],
  int: ['-2147483648', '-1', '2147483647'],
  bigint: ['-9223372036854775808', '-1', '0', '9007199254740993', '9223372036854775807'],
  text: ["''", "'coin'", "'Münze 💰'", "repeat('ü', 100000)"],
  varchar: ["'0001_create'"],
  name: ["'coin_fetch_pkey'"],
  '"char"': ["'r'"],
  uuid: ["'00000000-0000-0000-0000-000000000000'", "'3F0C9A52-7F5E-4C57-9D4B-0F6A4A1C2DFE'"],
  bytea: ["''", "'\\x00ff5c78'", "decode(repeat('00017f80ff', 30000), 'hex')"],
  timestamptz: [
    "'2026-11-25 04:50:42.123456+00'",
    "'2026-11-25 04:50:42.999999+00'",
    "'2026-11-25 04:50:42+00'",
    "'2000-01-01 00:00:00+00'",
    "'1999-12-31 23:59:59.999999+00'",
    "'1970-01-01 00:00:00.000001+00'",
    "'1969-12-31 23:59:59.999999+00'",
    "'1969-12-31 23:59:59.999+00'",
    "'9999-12-31 23:59:59.999999+00'",
  ],
  'uuid[]': ["'{}'", "ARRAY['3f0c9a52-7f5e-4c57-9d4b-0f6a4a1c2d3e', NULL]"],
  'text[]': ["ARRAY['a', '', NULL, 'NULL', 'ü,\"']"],
};

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

/** Evaluates an expression in a statement with a parameter, whose rows are binary. */
const inBinary = (db: Database, expression: string) =>
  run(db, sql<{ value: unknown }>`SELECT ${sql.raw(expression)} AS value WHERE ${true}::boolean`);
/** Evaluates an expression in a statement without parameters, whose rows are text. */
const asText = (db: Database, expression: string) =>
  run(db, sql<{ value: unknown }>`SELECT ${sql.raw(expression)} AS value`);

test.each(Object.entries(VALUES))('a %s has the same value from binary as from text', async (type, values) => {
  for (const value of [...values, 'NULL']) {
    const expression = `(${value})::${type}`;
    expect(await inBinary(database.serviceDb, expression)).toEqual(await asText(database.serviceDb, expression));
  }
});

test('key bytes do not change when later rows arrive', async () => {
  const rows = await run(
    database.serviceDb,
    sql<{ n: number; bytes: Buffer }>`
SELECT n, decode(repeat(lpad(to_hex(n % 256), 2, '0'), 1000 + n), 'hex') AS bytes
FROM generate_series(1, ${2000}::int) n`,
  );
  expect(rows).toHaveLength(2000);
  for (const { n, bytes } of rows) {
    if (bytes.length !== 1000 + n || !bytes.every((byte) => byte === n % 256))
      throw new Error(`row ${n} has other bytes`);
  }
});

test('a type without a decoder fails the statement, and the connection can still be used', async () => {
  const { db, drop } = await createDatabase('empty', { poolSize: 1 });
  try {
    const before = await inBinary(db, 'pg_backend_pid()');
    await expect(inBinary(db, '1.5::numeric')).rejects.toThrow('oid 1700');
    expect(await inBinary(db, 'pg_backend_pid()')).toEqual(before);
  } finally {
    await drop();
  }
});

test('statements are not prepared where a pooler may use another connection for each', async () => {
  const { db, drop } = await createDatabase('empty', { poolSize: 1, preparedStatements: false });
  try {
    expect(await inBinary(db, "'\\x00ff'::bytea")).toEqual([{ value: Buffer.from([0, 255]) }]);
    expect(await asText(db, '(SELECT count(*)::int FROM pg_prepared_statements)')).toEqual([{ value: 0 }]);
  } finally {
    await drop();
  }
});
