import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { Client } from 'pg';
import pino from 'pino';
import { COIN_CATEGORIES, type CoinCategorySpec } from '../../gen/aqm/coin/v1/coin_categories';
import { integers, smallints, uuids } from '../../services/coin/database/binary-arrays';
import { clientClass } from '../../services/coin/database/client';
import { EmbeddedPostgres } from '../../services/coin/database/embedded-postgres';
import { type BenchResult, runCommand } from '../harness/command';
import { columns, median, positive, progress } from '../harness/numbers';
import { treeCpuMs } from '../harness/processor';

const USAGE = `Usage: npm run bench -- rows [--rounds 40] [--seconds 0.3] [--out docs/performance]

  Compares our binary rows and array parameters with the text format of the pg driver
  (docs/adr/0019-binary-rows.md). One connection each runs the same prepared statement, in interleaved
  rounds. Prints medians (means of the server's processor time).

  --rounds   rounds per case
  --seconds  seconds per driver and round`;

const [, SILVER, BRONZE] = COIN_CATEGORIES;
/** The number of fetches in a large batch. */
const BATCH = 85;
const USERS = 100;

/** A driver, as one case uses it. */
interface Driver {
  readonly client: Client;
  query(statement: Statement): Promise<{ rows: unknown[] }>;
}

interface Statement {
  readonly name: string;
  readonly text: string;
  /** Parameters of the pg driver, which sends an array as text. */
  readonly asText: readonly unknown[];
  /** Parameters of our client, which sends an array in binary. */
  readonly asBinary: readonly unknown[];
}

/** One comparison: a statement, and how many rows or array items it transfers. */
interface Case {
  readonly what: string;
  readonly items: number;
  readonly next: (round: number) => Statement;
}

interface Measurement {
  readonly perSecond: number;
  /**
   * Processor time of this process and of the PostgreSQL backend, in microseconds per row or item.
   */
  readonly clientUs: number;
  readonly serverUs: number;
}

const users = Array.from({ length: USERS }, (_, index) => `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`);

/** The columns that a claim returns, of coins of one category. */
const rowsCase = (count: number, spec: CoinCategorySpec): Case => ({
  what: `${count} row${count === 1 ? '' : 's'} of ${spec.publicKeySize + spec.signatureSize} bytes (${spec.name})`,
  items: count,
  next: (round) => {
    const values = [users[round % USERS], spec.category, count];
    return {
      name: `rows_${count}_${spec.name}`,
      text: `SELECT key_id, coin_category, public_key, signature, expire_time FROM coins WHERE user_id = $1::uuid AND coin_category = $2::smallint LIMIT $3::int`,
      asText: values,
      asBinary: values,
    };
  },
});

/** The arrays of a batched claim. */
const arraysCase: Case = {
  what: `${BATCH} items in four arrays`,
  items: BATCH,
  next: (round) => {
    const indexes = Array.from({ length: BATCH }, (_, index) => index);
    const user = (index: number) => users[(index + round) % USERS] ?? '';
    return {
      name: 'arrays',
      text: `SELECT count(*)::int AS items FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::int[]) AS i`,
      asText: [indexes.map(user), indexes.map(user), indexes.map(() => BRONZE.category), indexes],
      asBinary: [
        uuids(indexes, user),
        uuids(indexes, user),
        smallints(indexes, () => BRONZE.category),
        integers(indexes, (index) => index),
      ],
    };
  },
};

async function connect(connectionString: string): Promise<Record<'text' | 'binary', Driver>> {
  const text = new Client({ connectionString });
  await text.connect();
  const BinaryClient = clientClass({ answerTimeoutMs: 60_000, named: true });
  const binary = new BinaryClient({ connectionString });
  await new Promise<void>((resolve, reject) => binary.connect((error?: Error) => (error ? reject(error) : resolve())));
  return {
    text: {
      client: text,
      query: (statement) => text.query({ name: statement.name, text: statement.text, values: [...statement.asText] }),
    },
    binary: {
      client: binary,
      query: (statement) => binary.query(statement.text, [...statement.asBinary]),
    },
  };
}

/** Runs the statement again and again on one connection for some seconds. */
async function measure(driver: Driver, backend: number, { items, next }: Case, seconds: number): Promise<Measurement> {
  const serverMs = treeCpuMs(backend);
  const cpu = process.cpuUsage();
  const start = performance.now();
  let statements = 0;
  do {
    await driver.query(next(statements));
    statements += 1;
  } while (performance.now() - start < seconds * 1000);
  const elapsedMs = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  const transferred = statements * items;
  return {
    perSecond: (1000 * transferred) / elapsedMs,
    clientUs: (user + system) / transferred,
    serverUs: (1000 * (treeCpuMs(backend) - serverMs)) / transferred,
  };
}

runCommand(USAGE, { rounds: '40', seconds: '0.3' }, async (options): Promise<BenchResult> => {
  const [rounds, seconds] = [positive('rounds', options.rounds), positive('seconds', options.seconds)];
  const folder = mkdtempSync(join(tmpdir(), 'aqm-bench-rows-'));
  const postgres = await EmbeddedPostgres.open(folder, { log: pino({ level: 'error' }, pino.destination(2)) });
  try {
    const drivers = await connect(postgres.connectionString());
    await fill(drivers.text.client);
    const backends = { text: await pidOf(drivers.text), binary: await pidOf(drivers.binary) };
    const summary = [];
    for (const one of [rowsCase(1, SILVER), rowsCase(BATCH, SILVER), rowsCase(BATCH, BRONZE), arraysCase]) {
      progress(one.what);
      const results = { text: [] as Measurement[], binary: [] as Measurement[] };
      const [first, second] = [await drivers.text.query(one.next(0)), await drivers.binary.query(one.next(0))];
      if (!isDeepStrictEqual(plain(first.rows), plain(second.rows))) throw new Error(`${one.what}: the rows differ`);
      // The first round only warms up.
      for (let round = -1; round < rounds; round += 1) {
        for (const name of round % 2 === 0 ? (['text', 'binary'] as const) : (['binary', 'text'] as const)) {
          const result = await measure(drivers[name], backends[name], one, seconds);
          if (round >= 0) results[name].push(result);
        }
      }
      summary.push(summarize(one.what, results));
    }
    for (const { client } of Object.values(drivers)) await client.end();
    return outcomeOf({ rounds, seconds }, summary);
  } finally {
    await postgres.close();
    rmSync(folder, { recursive: true, force: true });
  }
});

async function fill(client: Client): Promise<void> {
  await client.query(`
CREATE TABLE coins (
  user_id uuid, key_id uuid, coin_category smallint, public_key bytea STORAGE EXTERNAL, signature bytea STORAGE EXTERNAL,
  expire_time timestamptz
)`);
  for (const { category, publicKeySize, signatureSize } of [SILVER, BRONZE]) {
    // md5 gives 16 bytes.
    await client.query(
      `
INSERT INTO coins
SELECT u, gen_random_uuid(), $5::smallint, decode(repeat(md5(n::text), $2::int), 'hex'),
  decode(repeat(md5(u::text), $3::int), 'hex'), now() + interval '20 days'
FROM unnest($1::uuid[]) u, generate_series(1, $4::int) n`,
      [users, publicKeySize / 16, signatureSize / 16, BATCH, category],
    );
  }
  await client.query('CREATE INDEX ON coins (user_id, coin_category)');
  await client.query('VACUUM (ANALYZE) coins');
}

async function pidOf({ client }: Driver): Promise<number> {
  const { rows } = await client.query('SELECT pg_backend_pid() AS pid');
  return rows[0]?.pid ?? 0;
}

/** Makes rows comparable, whatever the prototype and the buffers behind their values. */
function plain(rows: readonly unknown[]): unknown {
  return JSON.parse(JSON.stringify(rows));
}

function summarize(what: string, results: Readonly<Record<'text' | 'binary', readonly Measurement[]>>) {
  const medians = (name: 'text' | 'binary') => ({
    perSecond: median(results[name].map(({ perSecond }) => perSecond)),
    clientUs: median(results[name].map(({ clientUs }) => clientUs)),
    // A mean, because the kernel counts processor time in steps of 10 ms.
    serverUs: results[name].reduce((sum, { serverUs }) => sum + serverUs, 0) / results[name].length,
  });
  return {
    what,
    text: medians('text'),
    binary: medians('binary'),
    // Each round is compared with its neighbour, because both ran under the same load.
    textOfBinary: median(
      results.text.map(({ perSecond }, round) => perSecond / (results.binary[round]?.perSecond ?? 1)),
    ),
  };
}

function outcomeOf(settings: object, summary: readonly ReturnType<typeof summarize>[]): BenchResult {
  const us = (value: number) => value.toFixed(2);
  return {
    name: 'rows',
    table: columns(
      [
        ['', 'text: items/s', 'client µs', 'server µs', 'binary: items/s', 'client µs', 'server µs', 'text of binary'],
        ...summary.map(({ what, text, binary, textOfBinary }) => [
          what,
          text.perSecond.toFixed(0),
          us(text.clientUs),
          us(text.serverUs),
          binary.perSecond.toFixed(0),
          us(binary.clientUs),
          us(binary.serverUs),
          `${(100 * textOfBinary).toFixed(0)} %`,
        ]),
      ],
      17,
    ),
    json: { settings, summary },
    verdicts: [],
  };
}
