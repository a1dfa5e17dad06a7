import { RedisServer } from '../../../testkit/redis-server';
import type { Harness } from '../../conformance/harness';
import { redisHarness } from '../redis/harness';
import { PASSPHRASE, RAW_KEY, sqliteHarness } from '../sqlite/harness';
import { type RunOptions, tryAgainstModel } from './run';

/**
 * Random sequences of calls and time steps, against the model of both interfaces in model.ts. `npm run model` tries
 * more of them by these variables, and repeats a failure by the seed and path that it printed.
 */
const wanted = numberIn('AQM_MODEL_SEQUENCES');
const seed = numberIn('AQM_MODEL_SEED');
const path = process.env.AQM_MODEL_PATH || undefined;
const run = process.env.AQM_MODEL_RUN || undefined;

let server: RedisServer;
beforeAll(async () => {
  server = await RedisServer.start();
});
afterAll(() => server.destroy());

const sqlite = sqliteHarness(RAW_KEY);
const redis = redisHarness(() => server, RAW_KEY);
const BY_TURNS = { batches: 60, handles: 2, atOnce: 1, processes: 0, first: 'own' } as const;
const AT_ONCE = { batches: 20, handles: 4, atOnce: 4 } as const;
const SQLITE_AT_ONCE = { ...AT_ONCE, processes: 3, first: 'processes' } as const;
const REDIS_AT_ONCE = { ...AT_ONCE, processes: 1, first: 'own' } as const;

const runs: readonly [
  name: string,
  what: string,
  harnesses: readonly Harness[],
  sequences: number,
  shape: Pick<RunOptions, keyof typeof SQLITE_AT_ONCE>,
][] = [
  ['by-turns', 'SQLite and Redis side by side, two handles by turns', [sqlite, redis], wanted ?? 40, BY_TURNS],
  // Every opening takes 0.2 s.
  ['passphrase', 'SQLite with a passphrase', [sqliteHarness(PASSPHRASE)], Math.ceil((wanted ?? 80) / 10), BY_TURNS],
  ['sqlite-at-once', 'SQLite, handles of four processes at once', [sqlite], wanted ?? 60, SQLITE_AT_ONCE],
  ['redis-at-once', 'Redis, three handles and another process at once', [redis], wanted ?? 60, REDIS_AT_ONCE],
];

describe('every answer is the model’s', () => {
  for (const [name, what, harnesses, sequences, shape] of runs.filter(([name]) => (run ?? name) === name)) {
    // Far more than a run takes and shrinking may: a call without an answer ends it before.
    const timeLimitMs = 200_000 + sequences * 1_000;
    it(
      `${name}: ${what}`,
      async () => {
        const options: RunOptions = { name, sequences, seed, path, progress: wanted !== undefined, ...shape };
        const tried = await tryAgainstModel(harnesses, options);
        process.stderr.write(
          `Model: ${what}: ${tried.sequences} sequences, ${tried.calls} calls, ${tried.telling} with a telling answer, ` +
            `explained by up to ${tried.states} states\n`,
        );
        expect(tried.sequences).toBe(path === undefined ? sequences : 1);
      },
      timeLimitMs,
    );
  }
});

function numberIn(variable: string): number | undefined {
  const text = process.env[variable];
  if (text === undefined || text === '') return undefined;
  const number = Number(text);
  if (!Number.isInteger(number)) throw new Error(`${variable} must be a whole number`);
  return number;
}
