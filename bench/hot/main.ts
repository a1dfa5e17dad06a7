import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { BATCH_USAGE, batchOf, type Outcome, runCommand } from '../service/command';
import { columns, median, positive, progress, verdict } from '../service/numbers';
import { Stage } from '../service/stage';
import type { Load } from '../users/crowd';
import { Crowd } from '../users/spawn-crowd';

const USAGE = `Usage: npm run bench -- hot [--fetches 10000] [--rounds 3] [--tier GOLD] ${BATCH_USAGE} [--out docs/performance]
  So many connected users who all fetch one coin at the same moment: of one user who has as many, and of as many users who have one
  each, by turns. The service may have all of them in its queue (AQM_MAX_CALLS, AQM_MAX_WAIT_MS, AQM_CONNECT_TIMEOUT_MS), which it
  would refuse with the settings that ship. Exit code 1 when a fetch came out empty or twice, or the one user's took too long.`;

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

runCommand(USAGE, { fetches: '10000', rounds: '3', tier: 'GOLD', batch: '' }, async (options): Promise<Outcome> => {
  const [fetches, rounds] = [positive('fetches', options.fetches), positive('rounds', options.rounds)];
  const spec = COIN_CATEGORIES.find(({ name }) => name === options.tier.toUpperCase());
  if (!spec) throw new Error(`--tier must be one of ${COIN_CATEGORIES.map(({ name }) => name).join(', ')}`);
  const service = { ...ROOM, ...batchOf(options.batch) };
  const env = { AQM_LOG_LEVEL: 'error', ...service };
  const stage = await Stage.open({ postgresSettings: POSTGRES, env, targets: fetches, coinsPerTarget: 0 });
  const crowd = new Crowd();
  const results: Round[] = [];
  try {
    const targets = { ids: stage.targets, category: spec.category };
    const [hotUser = ''] = stage.targets;
    await stage.stock([{ spec, perUser: 1 }]);
    await crowd.connect(stage.service.address, await stage.tokens(fetches), targets);
    await crowd.order({ do: 'greet' });
    // The first round only warms up.
    for (let round = -1; round < rounds; round += 1) {
      const hot = async () => {
        await useUp(stage);
        await stage.stock([{ spec, perUser: fetches }], [hotUser]);
        return crowd.order({ do: 'burst', targets: [hotUser] });
      };
      const spread = async () => {
        await useUp(stage);
        await stage.stock([{ spec, perUser: 1 }]);
        return crowd.order({ do: 'burst', targets: stage.targets });
      };
      const result =
        round % 2 === 0 ? { hot: await hot(), spread: await spread() } : { spread: await spread(), hot: await hot() };
      const say = ({ ms, ends, distinct }: Load) => `${ms.toFixed(0)} ms ${JSON.stringify(ends)} ${distinct} different`;
      progress(`round ${round + 1}: one user ${say(result.hot)}; spread ${say(result.spread)}`);
      if (round >= 0) results.push(result);
    }
  } finally {
    crowd.close();
    await stage.close();
  }
  return outcomeOf({ fetches, rounds, tier: spec.name, postgres: POSTGRES, service }, fetches, results);
});

/** Unfetched coins that are left, which are some only when a fetch failed. */
async function useUp(stage: Stage): Promise<void> {
  await stage.query(
    `WITH left_over AS (DELETE FROM coin_stock RETURNING user_id, key_id)
     DELETE FROM coin USING left_over l WHERE coin.user_id = l.user_id AND coin.key_id = l.key_id`,
  );
}

function outcomeOf(settings: object, fetches: number, rounds: readonly Round[]): Outcome {
  const ms = (of: keyof Round) => median(rounds.map((round) => round[of].ms));
  const ratio = ms('hot') / ms('spread');
  const least = (of: (load: Load) => number) => Math.min(...rounds.flatMap(({ hot, spread }) => [of(hot), of(spread)]));
  const answered = least(({ ends }) => ends.answered ?? 0);
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
      [`${fetches} fetches at once`, 'all, ms', 'a second', 'p50 ms', 'p99 ms', 'max ms'],
      row('of one user', 'hot'),
      row('of as many users', 'spread'),
    ]),
    json: { settings, ratio, hotMs: ms('hot'), spreadMs: ms('spread'), rounds },
    verdicts: [
      verdict(
        answered === fetches,
        `every fetch was answered with a coin: ${answered} of ${fetches} in the worst round`,
      ),
      verdict(distinct === fetches, `no coin was handed out twice: ${distinct} different ones`),
      verdict(ratio <= 1.5, `one user's coins take at most 1.5 times as long: ${ratio.toFixed(2)} times`),
    ],
  };
}
