import type { Harness } from '../conformance/harness';
import { tryAgainstModel } from './model-run';
import { redisHarness } from './redis-harness';
import { RedisServer } from './redis-server';
import { PASSPHRASE, RAW_KEY, sqliteHarness } from './sqlite-harness';

/**
 * Random sequences of calls and time steps, against the model of both interfaces in model.ts.
 *
 * AQM_MODEL_SEQUENCES=<n> tries that many sequences of each kind instead of the few of the suite (a tenth of it with a
 * passphrase, where every opening takes 0.2 s). A failure prints its seed and the shortest sequence that fails;
 * AQM_MODEL_SEED=<seed> tries the same sequences again.
 */
const wanted = numberIn('AQM_MODEL_SEQUENCES');
const seed = numberIn('AQM_MODEL_SEED');

let server: RedisServer;
beforeAll(async () => {
  server = await RedisServer.start();
});
afterAll(() => server.destroy());

const redis = redisHarness(() => server, RAW_KEY);
const ONE_BY_ONE = { batches: 60, handles: 1, atOnce: 1 };
const BY_TURNS = { batches: 60, handles: 2, atOnce: 1 };
const AT_ONCE = { batches: 20, handles: 3, atOnce: 3 };

const runs: readonly [name: string, harness: Harness, sequences: number, shape: typeof AT_ONCE][] = [
  ['SQLite with a raw key, two handles by turns', sqliteHarness(RAW_KEY), wanted ?? 60, BY_TURNS],
  ['SQLite with a passphrase', sqliteHarness(PASSPHRASE), Math.ceil((wanted ?? 80) / 10), ONE_BY_ONE],
  ['Redis, two handles by turns', redis, wanted ?? 60, BY_TURNS],
  ['SQLite with a raw key, three handles at once', sqliteHarness(RAW_KEY), wanted ?? 60, AT_ONCE],
  ['Redis, three handles at once', redis, wanted ?? 60, AT_ONCE],
];

describe('every answer is the model’s', () => {
  for (const [name, harness, sequences, shape] of runs) {
    // Far more than a run takes; a failing one shrinks its sequence for some of it.
    const timeLimitMs = 40_000 + sequences * 1_000;
    it(
      name,
      async () => {
        const tried = await tryAgainstModel(harness, { sequences, seed, timeLimitMs, ...shape });
        process.stderr.write(
          `Model: ${name}: ${tried.sequences} sequences, ${tried.calls} calls, ${tried.telling} with a telling answer\n`,
        );
        expect(tried.sequences).toBe(sequences);
      },
      timeLimitMs + 20_000,
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
