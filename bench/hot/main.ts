import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { BATCH_USAGE, type BenchResult, batchOf, runCommand } from '../harness/command';
import { columns, median, positive, progress, verdict } from '../harness/numbers';
import { TestBed } from '../harness/test-bed';
import type { Load } from '../users/load-generator';
import { LoadGenerator } from '../users/spawn-load-generator';

const USAGE = `Usage: npm run bench -- hot [--fetches 10000] [--rounds 3] [--tier GOLD] ${BATCH_USAGE}
                            [--out docs/performance]

  Measures how long a burst takes in which all connected users fetch one coin at the same moment.
  Compares a single hot target that owns all the coins with as many targets that own one coin each,
  in alternating rounds. The hot target should take at most 1.5 times as long. The service is
  configured to queue all calls (AQM_MAX_CALLS, AQM_MAX_WAIT_MS, AQM_CONNECT_TIMEOUT_MS), which it
  would refuse with its defaults. Exit code 1: a fetch was empty, a coin was handed out twice, or
  the ratio is too high.`;

const POSTGRES = ['shared_buffers=1GB', 'max_wal_size=8GB', 'checkpoint_timeout=1h'];
const WAIT_MS = '120000';
const ROOM = {
  AQM_MAX_CALLS: '100000',
  AQM_MAX_WAIT_MS: WAIT_MS,
  AQM_CONNECT_TIMEOUT_MS: WAIT_MS,
  AQM_LOCK_TIMEOUT_MS: WAIT_MS,
  AQM_STATEMENT_TIMEOUT_MS: WAIT_MS,
};

interface Round {
  readonly hot: Load;
  readonly spread: Load;
}

runCommand(USAGE, { fetches: '10000', rounds: '3', tier: 'GOLD', batch: '' }, async (options): Promise<BenchResult> => {
  const [fetches, rounds] = [positive('fetches', options.fetches), positive('rounds', options.rounds)];
  const spec = COIN_CATEGORIES.find(({ name }) => name === options.tier.toUpperCase());
  if (!spec) throw new Error(`--tier must be one of ${COIN_CATEGORIES.map(({ name }) => name).join(', ')}`);
  const service = { ...ROOM, ...batchOf(options.batch) };
  const env = { AQM_LOG_LEVEL: 'error', ...service };
  const testBed = await TestBed.open({ postgresSettings: POSTGRES, env, targets: fetches, coinsPerTarget: 0 });
  const generator = new LoadGenerator();
  const results: Round[] = [];
  try {
    const targets = { ids: testBed.targets, category: spec.category };
    const [hotUser = ''] = testBed.targets;
    await testBed.stock([{ spec, perUser: 1 }]);
    await generator.connect(testBed.service.address, await testBed.tokens(fetches), targets);
    await generator.run({ do: 'greet' });
    // The first round is a warm-up.
    for (let round = -1; round < rounds; round += 1) {
      const hot = async () => {
        await deleteStock(testBed);
        await testBed.stock([{ spec, perUser: fetches }], [hotUser]);
        return generator.run({ do: 'burst', targets: [hotUser] });
      };
      const spread = async () => {
        await deleteStock(testBed);
        await testBed.stock([{ spec, perUser: 1 }]);
        return generator.run({ do: 'burst', targets: testBed.targets });
      };
      const result =
        round % 2 === 0 ? { hot: await hot(), spread: await spread() } : { spread: await spread(), hot: await hot() };
      const describe = ({ ms, outcomes, distinct }: Load) =>
        `${ms.toFixed(0)} ms ${JSON.stringify(outcomes)} ${distinct} different coins`;
      progress(`round ${round + 1}: hot target ${describe(result.hot)}; spread ${describe(result.spread)}`);
      if (round >= 0) results.push(result);
    }
  } finally {
    generator.close();
    await testBed.close();
  }
  return resultOf({ fetches, rounds, tier: spec.name, postgres: POSTGRES, service }, fetches, results);
});

/** Deletes unfetched coins. There are some only if a fetch failed. */
async function deleteStock(testBed: TestBed): Promise<void> {
  await testBed.query(
    `WITH left_over AS (DELETE FROM coin_stock RETURNING user_id, key_id)
     DELETE FROM coin USING left_over l WHERE coin.user_id = l.user_id AND coin.key_id = l.key_id`,
  );
}

function resultOf(settings: object, fetches: number, rounds: readonly Round[]): BenchResult {
  const ms = (of: keyof Round) => median(rounds.map((round) => round[of].ms));
  const ratio = ms('hot') / ms('spread');
  const least = (of: (load: Load) => number) => Math.min(...rounds.flatMap(({ hot, spread }) => [of(hot), of(spread)]));
  const answered = least(({ outcomes }) => outcomes.answered ?? 0);
  const distinct = least((load) => load.distinct ?? 0);
  const row = (name: string, of: keyof Round) => {
    const latency = (which: 'p50' | 'p99' | 'max') =>
      median(rounds.map((round) => round[of].latency[which])).toFixed(0);
    return [
      name,
      ms(of).toFixed(0),
      ((1000 * fetches) / ms(of)).toFixed(0),
      latency('p50'),
      latency('p99'),
      latency('max'),
    ];
  };
  return {
    name: 'hot',
    table: columns([
      [`${fetches} fetches at once`, 'all, ms', 'per second', 'p50 ms', 'p99 ms', 'max ms'],
      row('one hot target', 'hot'),
      row('one target per fetch', 'spread'),
    ]),
    json: { settings, ratio, hotMs: ms('hot'), spreadMs: ms('spread'), rounds },
    verdicts: [
      verdict(
        answered === fetches,
        `every fetch was answered with a coin: ${answered} of ${fetches} in the worst round`,
      ),
      verdict(distinct === fetches, `no coin was handed out twice: ${distinct} different coins`),
      verdict(ratio <= 1.5, `fetches from one hot target take at most 1.5 times as long: ${ratio.toFixed(2)} times`),
    ],
  };
}
