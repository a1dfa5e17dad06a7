import { join } from 'node:path';
import { brokenCopy } from '../../chaos/service/broken-copy';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import type { ServiceProcess } from '../../services/coin/test/service-process';
import { bars } from '../service/bars';
import { type Outcome, runCommand } from '../service/command';
import { runGhz } from '../service/ghz';
import { columns, median, positive, progress, verdict } from '../service/numbers';
import { treeCpuMs } from '../service/processor';
import { Stage } from '../service/stage';
import { CUTS, type Cut } from './cuts';

const USAGE = `Usage: npm run bench:promises [-- --rounds 5] [--warm-up 1] [--seconds 3] [--tier BRONZE] [--targets 1000] [--out docs/performance]
  What each promise costs a fetch: the service as it ships, the same with what keeps one promise cut out of its compiled code, and
  with all of that cut out, by turns on one PostgreSQL; 256 calls in flight from ghz, one coin each.`;

const IN_FLIGHT = 256;
const CONNECTIONS = 16;
/** More than any of them does on two cores. */
const MOST_PER_SECOND = 16_000;
const POSTGRES = ['shared_buffers=1GB', 'max_wal_size=8GB', 'checkpoint_timeout=1h'];
const WHOLE = 'as it ships';
const BARE = 'without any of these';

interface Arm {
  readonly cut: Pick<Cut, 'promise' | 'what'>;
  readonly service: ServiceProcess;
  readonly rounds: Round[];
}

interface Round {
  readonly perSecond: number;
  /** Processor time, in microseconds a coin. */
  readonly serviceUs: number;
  readonly postgresUs: number;
  readonly failed: number;
}

runCommand(
  USAGE,
  { rounds: '5', 'warm-up': '1', seconds: '3', tier: 'BRONZE', targets: '1000' },
  async (options): Promise<Outcome> => {
    const [rounds, seconds] = [positive('rounds', options.rounds), positive('seconds', options.seconds)];
    const spec = COIN_CATEGORIES.find(({ name }) => name === options.tier.toUpperCase());
    if (!spec) throw new Error(`--tier must be one of ${COIN_CATEGORIES.map(({ name }) => name).join(', ')}`);
    // Whoever has 256 calls in flight wants them answered, late rather than never.
    const env = { AQM_LOG_LEVEL: 'error', AQM_MAX_WAIT_MS: '10000' };
    const targets = positive('targets', options.targets);
    const stage = await Stage.open({ postgresSettings: POSTGRES, env, targets, coinsPerTarget: 0, spec });
    const copies: ReturnType<typeof brokenCopy>[] = [];
    const arms: Arm[] = [{ cut: { promise: '', what: WHOLE }, service: stage.service, rounds: [] }];
    try {
      const all = { promise: '', what: BARE, edits: CUTS.flatMap(({ edits }) => edits) };
      for (const cut of [...CUTS, all]) {
        const copy = brokenCopy(cut.edits);
        copies.push(copy);
        const service = await stage.spawnService(env, join(copy.dist, 'services/coin/aqm.js'));
        arms.push({ cut, service, rounds: [] });
      }
      const [token = ''] = await stage.tokens(1);
      const perTarget = Math.ceil((MOST_PER_SECOND * (seconds + 1) * arms.length) / targets / 2);
      // Rounds that only warm up come first.
      for (let round = -Number(options['warm-up']); round < rounds; round += 1) {
        await stage.stock([{ spec, perUser: Math.max(0, perTarget - (await stage.fewest())) }]);
        await stage.settle();
        // The order changes, so that none always runs on what another left warm.
        const shift = (round + arms.length) % arms.length;
        for (const arm of [...arms.slice(shift), ...arms.slice(0, shift)]) {
          const result = await runRound(stage, arm.service, { token, seconds, category: spec.category });
          progress(`round ${round + 1}, ${arm.cut.what}: ${result.perSecond.toFixed(0)} coins/s`);
          if (round >= 0) arm.rounds.push(result);
        }
      }
    } finally {
      await stage.close();
      for (const copy of copies) copy.remove();
    }
    return outcomeOf({ rounds, seconds, tier: spec.name, targets, inFlight: IN_FLIGHT, postgres: POSTGRES }, arms);
  },
);

/** By what is gone from the stock: one of them records no fetch. */
async function inStock(stage: Stage): Promise<number> {
  const [row] = await stage.query<{ coins: string }>('SELECT count(*) AS coins FROM coin_stock');
  return Number(row?.coins);
}

async function runRound(
  stage: Stage,
  service: ServiceProcess,
  { token, seconds, category }: { readonly token: string; readonly seconds: number; readonly category: number },
): Promise<Round> {
  await stage.query('CHECKPOINT');
  const cpu = () => ({ service: treeCpuMs(service.child.pid ?? 0), postgres: stage.postgresCpuMs() });
  const [stock, before] = [await inStock(stage), cpu()];
  const load = await runGhz({
    address: service.address,
    call: 'aqm.coin.v1.CoinService/FetchCoins',
    token,
    data: stage.targets.map((target) => ({ target_user_id: target, coin_category: category, count: 1 })),
    concurrency: IN_FLIGHT,
    connections: CONNECTIONS,
    seconds,
  });
  const after = cpu();
  const coins = stock - (await inStock(stage));
  return {
    perSecond: coins / load.seconds,
    serviceUs: (1000 * (after.service - before.service)) / coins,
    postgresUs: (1000 * (after.postgres - before.postgres)) / coins,
    failed: load.calls - coins,
  };
}

function outcomeOf(settings: object, arms: readonly Arm[]): Outcome {
  const of = ({ rounds }: Arm, what: keyof Round) => median(rounds.map((round) => round[what]));
  const whole = arms[0] as Arm;
  // Each round against the whole one's of the same turn: the machine is not equally fast all the time.
  const gain = ({ rounds }: Arm) =>
    median(rounds.map(({ perSecond }, index) => perSecond / (whole.rounds[index]?.perSecond ?? perSecond)));
  const summary = arms.map((arm) => ({
    ...{ promise: arm.cut.promise, without: arm.cut.what },
    perSecond: of(arm, 'perSecond'),
    ofWhole: gain(arm),
    serviceUs: of(arm, 'serviceUs'),
    postgresUs: of(arm, 'postgresUs'),
    rounds: arm.rounds,
  }));
  const failed = arms.flatMap(({ rounds }) => rounds).reduce((sum, round) => sum + round.failed, 0);
  return {
    name: 'promises',
    table: columns([
      ['promise', 'without', 'coins/s', 'of whole', 'service µs', 'PG µs'],
      ...summary.map(({ promise, without, perSecond, ofWhole, serviceUs, postgresUs }) => [
        promise,
        without,
        perSecond.toFixed(0),
        `${(100 * ofWhole).toFixed(0)} %`,
        serviceUs.toFixed(0),
        postgresUs.toFixed(0),
      ]),
    ]),
    json: { settings, summary },
    svg: bars(
      'Coins fetched a second without what keeps a promise: median of the rounds, and what they spanned',
      arms.map((arm) => ({
        name: arm.cut.what,
        value: of(arm, 'perSecond'),
        from: Math.min(...arm.rounds.map(({ perSecond }) => perSecond)),
        to: Math.max(...arm.rounds.map(({ perSecond }) => perSecond)),
      })),
      '/s',
    ),
    verdicts: [verdict(failed === 0, `every call was answered, with a coin: ${failed} were not`)],
  };
}
