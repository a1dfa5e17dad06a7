import { join } from 'node:path';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { brokenCopy } from '../../testkit/broken-copy';
import type { ServiceProcess } from '../../testkit/service-process';
import { type FetchLoad, fetchByGhz, IN_FLIGHT, LEAD_IN_S, leadIn, POSTGRES } from '../fetch/load';
import { OnceAlone, spawnEcho } from '../fetch/servers';
import { bars } from '../harness/bars';
import { type BenchResult, runCommand } from '../harness/command';
import { columns, median, positive, progress, verdict } from '../harness/numbers';
import { treeCpuMs } from '../harness/processor';
import { TestBed } from '../harness/test-bed';
import { type Cut, cutsFor } from './cuts';

const USAGE = `Usage: npm run bench -- promises [--rounds 5] [--warm-up 1] [--seconds 3] [--tier BRONZE]
                                 [--targets 1000] [--connections 4] [--workers 2]
                                 [--out docs/performance]

  Measures what each promise costs a fetch, with 256 single-coin calls in flight. Compares, in
  interleaved rounds on one PostgreSQL: the service as shipped; copies with one guarantee after the
  other removed from the compiled code (each copy lacks those above it, too); a minimal server that
  only hands no coin out twice; and an empty echo. The difference between two consecutive rows is
  the cost of the guarantee named in the second one.`;

/** The throughput goal of the service with all promises, relative to the echo. */
const GOAL = 0.72;

/** An upper bound of what any variant takes from the stock on two cores. */
const MAX_PER_SECOND = 18_000;

/** A server that answers fetches. */
interface Variant extends Omit<Cut, 'edits'> {
  readonly service: ServiceProcess;
  /** Counts the coins left in stock. undefined: the server always answers with the same coin. */
  readonly inStock: (() => Promise<number>) | undefined;
  readonly rounds: Round[];
}

interface Round {
  readonly perSecond: number;
  /** Processor time, in microseconds per coin. */
  readonly serviceUs: number;
  readonly clientUs: number;
  readonly postgresUs: number;
  readonly failed: number;
}

runCommand(
  USAGE,
  { rounds: '5', 'warm-up': '1', seconds: '3', tier: 'BRONZE', targets: '1000', connections: '4', workers: '2' },
  async (options): Promise<BenchResult> => {
    const [rounds, seconds] = [positive('rounds', options.rounds), positive('seconds', options.seconds)];
    const [targets, workers] = [positive('targets', options.targets), positive('workers', options.workers)];
    const connections = positive('connections', options.connections);
    const spec = COIN_CATEGORIES.find(({ name }) => name === options.tier.toUpperCase());
    if (!spec) throw new Error(`--tier must be one of ${COIN_CATEGORIES.map(({ name }) => name).join(', ')}`);
    // With 256 calls in flight, a late answer is better than a refusal.
    const env = { AQM_LOG_LEVEL: 'error', AQM_MAX_WAIT_MS: '10000', AQM_WORKERS: String(workers) };
    const testBed = await TestBed.open({ postgresSettings: POSTGRES, env, targets, coinsPerTarget: 0, spec });
    const copies: ReturnType<typeof brokenCopy>[] = [];
    const variants: Variant[] = [];
    const others: ServiceProcess[] = [];
    try {
      const ladder: Cut[] = [{ promise: '', what: 'as shipped', edits: [] }, ...cutsFor(spec)];
      for (const [index, { edits: _, ...cut }] of ladder.entries()) {
        const copy = brokenCopy(ladder.slice(0, index + 1).flatMap(({ edits }) => edits));
        copies.push(copy);
        const service = await testBed.spawnService(env, join(copy.dist, 'services/coin/aqm.js'));
        // Counted by what left the stock, because not all copies record what they hand out.
        variants.push({ ...cut, service, inStock: () => inStock(testBed), rounds: [] });
      }
      const once = await OnceAlone.open(testBed, spec, workers);
      const echo = await spawnEcho(spec, workers);
      others.push(once.service, echo);
      const none = { promise: '' };
      variants.push({
        ...none,
        what: '"once" alone',
        service: once.service,
        inStock: () => once.inStock(),
        rounds: [],
      });
      variants.push({ ...none, what: 'empty echo', service: echo, inStock: undefined, rounds: [] });
      const [token = ''] = await testBed.tokens(1);
      const load = { token, targets: testBed.targets, category: spec.category, connections, seconds };
      const ofRound = (MAX_PER_SECOND * (seconds + LEAD_IN_S + 1)) / targets;
      // Warm-up rounds first.
      for (let round = -Number(options['warm-up']); round < rounds; round += 1) {
        // The average is below the upper bound.
        const perTarget = Math.ceil((ofRound * ladder.length) / 1.5);
        await testBed.stock([{ spec, perUser: Math.max(0, perTarget - (await testBed.fewest())) }]);
        await testBed.settle();
        await once.stockUp(Math.ceil(ofRound));
        // The order rotates, so that no variant always runs after the same one.
        const shift = (round + variants.length) % variants.length;
        for (const variant of [...variants.slice(shift), ...variants.slice(0, shift)]) {
          const result = await runRound(testBed, variant, { ...load, address: variant.service.address });
          progress(`round ${round + 1}, ${variant.what}: ${result.perSecond.toFixed(0)} coins/s`);
          if (round >= 0) variant.rounds.push(result);
        }
      }
    } finally {
      for (const other of others) await other.stop();
      await testBed.close();
      for (const copy of copies) copy.remove();
    }
    const settings = { rounds, seconds, tier: spec.name, targets, connections, workers, inFlight: IN_FLIGHT };
    return resultOf({ ...settings, postgres: POSTGRES }, variants);
  },
);

async function inStock(testBed: TestBed): Promise<number> {
  const [row] = await testBed.query<{ coins: string }>('SELECT count(*) AS coins FROM coin_stock');
  return Number(row?.coins);
}

async function runRound(testBed: TestBed, variant: Variant, load: FetchLoad): Promise<Round> {
  await testBed.query('CHECKPOINT');
  await leadIn(load);
  const cpu = () => ({ service: treeCpuMs(variant.service.child.pid ?? 0), postgres: testBed.postgresCpuMs() });
  const [stock, before] = [(await variant.inStock?.()) ?? 0, cpu()];
  const result = await fetchByGhz(load);
  const after = cpu();
  const coins = variant.inStock ? stock - (await variant.inStock()) : result.latency.count;
  const us = (ms: number) => (1000 * ms) / coins;
  return {
    perSecond: coins / result.seconds,
    serviceUs: us(after.service - before.service),
    clientUs: us(result.cpuMs),
    postgresUs: us(after.postgres - before.postgres),
    failed: result.calls - coins,
  };
}

/**
 * Returns the processor time per coin, in microseconds: what the goal leaves, what the minimal server takes, and what
 * the promises beyond it take.
 */
function budgetOf(variants: readonly Variant[], allUs: (variant: Variant) => number) {
  const [once, echo] = variants.slice(-2).map(allUs) as [number, number];
  const beyond = variants.map(({ promise, inOnceAlone }, index) => {
    const [above, variant] = [variants[index - 1], variants[index]];
    return promise !== '' && !inOnceAlone && above && variant ? allUs(above) - allUs(variant) : 0;
  });
  return { goalUs: echo / GOAL, onceUs: once, beyondUs: beyond.reduce((sum, us) => sum + us, 0) };
}

function resultOf(settings: object, variants: readonly Variant[]): BenchResult {
  const of = ({ rounds }: Variant, what: keyof Round) => median(rounds.map((round) => round[what]));
  const allUs = (variant: Variant) => of(variant, 'serviceUs') + of(variant, 'clientUs') + of(variant, 'postgresUs');
  // Each round is compared with the other variant's in the same round, because the speed of the machine drifts.
  const against = (other: Variant | undefined, { rounds }: Variant) =>
    median(rounds.map(({ perSecond }, index) => perSecond / (other?.rounds[index]?.perSecond ?? perSecond)));
  const summary = variants.map((variant) => ({
    promise: variant.promise,
    without: variant.what,
    perSecond: of(variant, 'perSecond'),
    ofWhole: against(variants[0], variant),
    ofEcho: against(variants.at(-1), variant),
    serviceUs: of(variant, 'serviceUs'),
    clientUs: of(variant, 'clientUs'),
    postgresUs: of(variant, 'postgresUs'),
    allUs: allUs(variant),
    rounds: variant.rounds,
  }));
  const budget = budgetOf(variants, allUs);
  const percent = (share: number) => `${(100 * share).toFixed(0)} %`;
  const sound = variants.filter(({ collides }) => !collides).flatMap(({ rounds }) => rounds);
  const failed = sound.reduce((sum, round) => sum + round.failed, 0);
  return {
    name: 'promises',
    table: [
      columns([
        [
          'without this and those above',
          'promise',
          'coins/s',
          'of shipped',
          'of echo',
          'service µs',
          'client µs',
          'PG µs',
          'all µs',
        ],
        ...summary.map(({ promise, without, perSecond, ofWhole, ofEcho, serviceUs, clientUs, postgresUs, allUs }) => [
          without,
          promise,
          perSecond.toFixed(0),
          percent(ofWhole),
          percent(ofEcho),
          serviceUs.toFixed(0),
          clientUs.toFixed(0),
          postgresUs.toFixed(0),
          allUs.toFixed(0),
        ]),
      ]),
      `a goal of ${GOAL} of the echo leaves ${budget.goalUs.toFixed(0)} µs per coin; the minimal server takes ${budget.onceUs.toFixed(0)} µs, the promises beyond it ${budget.beyondUs.toFixed(0)} µs`,
    ].join('\n'),
    json: { settings, summary, budget },
    svg: bars(
      'Coins fetched per second without this guarantee and those above: median and range of the rounds',
      variants.map((variant) => ({
        name: variant.what,
        value: of(variant, 'perSecond'),
        from: Math.min(...variant.rounds.map(({ perSecond }) => perSecond)),
        to: Math.max(...variant.rounds.map(({ perSecond }) => perSecond)),
      })),
      '/s',
    ),
    verdicts: [verdict(failed === 0, `every call was answered with a coin: ${failed} were not`)],
  };
}
