import { RedisServer } from '../../../testkit/redis-server';
import { IS_FULL_RUN } from '../../../testkit/tier';
import type { Harness } from '../../conformance/harness';
import { redisHarness } from '../redis/harness';
import { PASSPHRASE, RAW_KEY, sqliteHarness } from '../sqlite/harness';
import { tryFlows } from './flows';
import { type Effort, type RunOptions, tryAgainstModel } from './run';

// Random sequences of calls, time steps, wrong clocks, backups and losses, compared with the model in model.ts; and of
// flows, after which the promises are checked (flow-world.ts). `npm run model` tries more of them by these variables, and
// repeats a failure by the seed and path that it printed.
const wanted = numberIn('MODEL_SEQUENCES');
const seed = numberIn('MODEL_SEED');
const path = process.env.MODEL_PATH || undefined;
const run = process.env.MODEL_RUN || undefined;

let server: RedisServer;
beforeAll(async () => {
  server = await RedisServer.start();
});
afterAll(() => server.destroy());

const sqlite = sqliteHarness(RAW_KEY);
const redis = redisHarness(() => server, RAW_KEY);
const ONE_BY_ONE = { commands: 60, handles: 2, atOnce: 1, processes: 0, first: 'own', incidents: true } as const;
const CONCURRENT = { commands: 20, handles: 4, atOnce: 4, incidents: true } as const;
const SQLITE_CONCURRENT = { ...CONCURRENT, processes: 3, first: 'processes' } as const;
const REDIS_CONCURRENT = { ...CONCURRENT, processes: 1, first: 'own' } as const;

interface Run {
  readonly name: string;
  readonly what: string;
  readonly harnesses: readonly Harness[];
  /** The shape of its sequences of calls; absent for sequences of flows. */
  readonly shape?: Pick<RunOptions, keyof typeof SQLITE_CONCURRENT>;
  /** The numbers of sequences in npm test and in a full run. */
  readonly sequences: readonly [number, number];
  /** The share of the sequences that `npm run model` asks for. */
  readonly share?: number;
}

const RUNS: readonly Run[] = [
  {
    name: 'one-by-one',
    what: 'SQLite and Redis side by side, two handles, one call at a time',
    harnesses: [sqlite, redis],
    shape: ONE_BY_ONE,
    sequences: [15, 40],
  },
  {
    name: 'passphrase',
    what: 'SQLite with a passphrase',
    harnesses: [sqliteHarness(PASSPHRASE)],
    // Every opening takes 0.2 s.
    shape: { ...ONE_BY_ONE, incidents: false },
    sequences: [1, 8],
    share: 0.1,
  },
  {
    name: 'sqlite-concurrent',
    what: 'SQLite, handles of four processes at the same time',
    harnesses: [sqlite],
    shape: SQLITE_CONCURRENT,
    sequences: [20, 60],
  },
  {
    name: 'redis-concurrent',
    what: 'Redis, three handles and another process at the same time',
    harnesses: [redis],
    shape: REDIS_CONCURRENT,
    sequences: [20, 60],
  },
  {
    name: 'flows',
    what: 'flows with an honest coin service, on SQLite or Redis',
    harnesses: [sqlite, redis],
    sequences: [6, 60],
  },
];

function sequencesOf({ sequences: [few, many], share = 1 }: Run): number {
  if (wanted !== undefined) return Math.ceil(wanted * share);
  return IS_FULL_RUN ? many : few;
}

describe('random sequences contradict no promise', () => {
  for (const one of RUNS.filter(({ name }) => (run ?? name) === name)) {
    const { name, what, harnesses, shape } = one;
    const sequences = sequencesOf(one);
    // Far more than a run and its shrinking take. A call without an answer ends the run before.
    const timeLimitMs = 300_000 + sequences * 5_000;
    it(
      `${name}: ${what}`,
      async () => {
        const effort: Effort = { name, sequences, seed, path, progress: wanted !== undefined };
        const tried = await (shape === undefined
          ? tryFlows(harnesses, effort)
          : tryAgainstModel(harnesses, { ...effort, ...shape }));
        process.stderr.write(
          `Model: ${what}: ${tried.sequences} sequences, ${tried.calls} calls, ${tried.substantial} with a substantial ` +
            `answer, explained by up to ${tried.states} states\n`,
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
  if (!Number.isInteger(number)) throw new Error(`${variable} must be a whole number.`);
  return number;
}
