import type { TestBed } from '../harness/test-bed';

const COIN = 'user_id, key_id, upload_order, expire_time, coin_category, public_key, signature, device_id';
const STOCK = 'user_id, device_id, coin_category, upload_order, key_id, expire_time';
/** Added to upload_order; far above the values that uploads get. */
const OFFSET = 2 ** 50;

/**
 * Stores the rows of the newest uploads a second time, under new ids, with COPY. The rows are first written to files on
 * the server. Then the COPY from those files into the same tables is timed, in one transaction. The new rows are
 * removed afterwards.
 */
export async function copyRows(
  testBed: TestBed,
  rows: number,
): Promise<{ readonly rows: number; readonly seconds: number }> {
  const [{ data_directory: folder = '' } = {}] = await testBed.query<{ data_directory: string }>('SHOW data_directory');
  const file = (table: string) => `'${folder}/${table}.bench'`;
  await testBed.query(
    `CREATE UNLOGGED TABLE bench_copy AS
     SELECT user_id, gen_random_uuid() AS key_id, upload_order + ${OFFSET} AS upload_order, expire_time, coin_category,
       public_key, signature, device_id
     FROM coin ORDER BY coin.upload_order DESC LIMIT $1`,
    [rows],
  );
  for (const [table, columns] of [
    ['coin', COIN],
    ['coin_stock', STOCK],
  ] as const) {
    const byBatch = 'ORDER BY upload_order';
    await testBed.query(`COPY (SELECT ${columns} FROM bench_copy ${byBatch}) TO ${file(table)} WITH (FORMAT binary)`);
  }
  await testBed.query('CHECKPOINT');
  const begin = performance.now();
  await testBed.query('BEGIN');
  await testBed.query(`COPY coin (${COIN}) FROM ${file('coin')} WITH (FORMAT binary)`);
  await testBed.query(`COPY coin_stock (${STOCK}) FROM ${file('coin_stock')} WITH (FORMAT binary)`);
  await testBed.query('COMMIT');
  const seconds = (performance.now() - begin) / 1000;
  for (const table of ['coin', 'coin_stock'])
    await testBed.query(`DELETE FROM ${table} WHERE upload_order >= ${OFFSET}`);
  await testBed.query('DROP TABLE bench_copy');
  await testBed.settle();
  return { rows, seconds };
}
