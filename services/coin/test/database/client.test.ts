import { type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks';
import { setImmediate } from 'node:timers/promises';
import { sql } from 'kysely';
import { createDatabase, databaseSettings, type TestDatabase } from '../../../../testkit/test-database';
import { openDatabase, run } from '../../database/pool';
import { DatabaseUnavailableError } from '../../errors';

type GcEntry = PerformanceEntry & { readonly detail: { readonly kind: number } };
/** NODE_PERFORMANCE_GC_MAJOR */
const FULL = 4;
/** What they allocate would bring about some, if it lasted; too few for V8 to optimize all that is run. */
const STATEMENTS = 5000;
const ROWS = 85;

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

/** One connection, past any pooler. */
const open = (statementTimeoutMs = 5000) =>
  openDatabase({ ...databaseSettings(database.name), poolSize: 1, statementTimeoutMs }, () => {});

/** How often it is looked, at most: a collection may come for what ran before, but where `work` brings one about it does so each time. */
const MAX_TIMES = 6;

/** The fewest full collections while `work` ran, of some times. Once more before, for what is compiled lasts. */
async function fullCollections(work: () => Promise<void>): Promise<number> {
  const counts: number[] = [];
  let count = 0;
  const observer = new PerformanceObserver((entries) => {
    count += (entries.getEntries() as GcEntry[]).filter(({ detail }) => detail.kind === FULL).length;
  });
  observer.observe({ entryTypes: ['gc'] });
  for (let time = 0; time <= MAX_TIMES && !counts.includes(0); time += 1) {
    count = 0;
    await work();
    // An entry comes two turns of the loop after its collection.
    for (let turn = 0; turn < 2; turn += 1) await setImmediate();
    if (time > 0) counts.push(count);
  }
  observer.disconnect();
  return Math.min(...counts);
}

test('rows and parameters of a statement are gone with it', async () => {
  const db = open();
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
