import { type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks';
import { setImmediate } from 'node:timers/promises';
import { sql } from 'kysely';
import { createDatabase, databaseSettings, type TestDatabase } from '../../../../testkit/test-database';
import { run } from '../../database/connection';
import { openDatabase } from '../../database/pool';

type GcEntry = PerformanceEntry & { readonly detail: { readonly kind: number } };
/** NODE_PERFORMANCE_GC_MAJOR */
const FULL = 4;
/**
 * So many that their allocations would cause full collections if they lasted; too few for V8 to
 * optimize all code that runs.
 */
const STATEMENTS = 5000;
const ROWS = 85;

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

/**
 * The largest number of measurements. A collection may be due to earlier code, but one that `work`
 * causes occurs each time.
 */
const MAX_MEASUREMENTS = 6;

/**
 * Returns the smallest number of full collections during `work`. A first run is not counted,
 * because compiled code lasts.
 */
async function fullCollections(work: () => Promise<void>): Promise<number> {
  const counts: number[] = [];
  let count = 0;
  const observer = new PerformanceObserver((entries) => {
    count += (entries.getEntries() as GcEntry[]).filter(({ detail }) => detail.kind === FULL).length;
  });
  observer.observe({ entryTypes: ['gc'] });
  for (let time = 0; time <= MAX_MEASUREMENTS && !counts.includes(0); time += 1) {
    count = 0;
    await work();
    // An entry arrives two turns of the event loop after its collection.
    for (let turn = 0; turn < 2; turn += 1) await setImmediate();
    if (time > 0) counts.push(count);
  }
  observer.disconnect();
  return Math.min(...counts);
}

test('rows and parameters of a statement do not outlive it', async () => {
  const db = openDatabase({ ...databaseSettings(database.name), poolSize: 1 }, () => {});
  try {
    const collections = await fullCollections(async () => {
      for (let statement = 0; statement < STATEMENTS; statement += 1) {
        const key = Buffer.allocUnsafe(2000);
        await run(
          db,
          sql`SELECT gen_random_uuid(), now(), substr(${key}::bytea, 1, 64) AS key FROM generate_series(1, ${ROWS}::int) i`,
        );
      }
    });
    expect(collections).toBe(0);
  } finally {
    await db.destroy();
  }
});
