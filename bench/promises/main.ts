import { join } from 'node:path';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { brokenCopy } from '../../testkit/broken-copy';
import type { ServiceProcess } from '../../testkit/service-process';
import { type FetchLoad, fetchByGhz, IN_FLIGHT, LEAD_IN_S, leadIn, POSTGRES } from '../fetch/load';
import { OnceAlone, spawnEcho } from '../fetch/servers';
import { bars } from '../service/bars';
import { type Outcome, runCommand } from '../service/command';
import { columns, median, positive, progress, verdict } from '../service/numbers';
import { treeCpuMs } from '../service/processor';
import { Stage } from '../service/stage';
import { type Cut, cutsFor } from './cuts';

const USAGE = `Usage: npm run bench -- promises [--rounds 5] [--warm-up 1] [--seconds 3] [--tier BRONZE] [--targets 1000] [--connections 4] [--workers 2] [--out docs/performance]
  What each promise costs a fetch: the service as it ships; the same with what keeps one promise after the other cut out of its
  compiled code, and then what its contract asks for besides; the least that hands a coin to one caller only; and an empty echo. By turns
  on one PostgreSQL; 256 calls in flight from ghz, one coin each.`;

/** What a service with all promises is to reach, of the echo. */
const GOAL = 0.72;

/** More than any of them takes out of the stock on two cores. */
const MAX_PER_SECOND = 18_000;

/** Something that answers fetches. */
interface Arm extends Omit<Cut, 'edits'> {
  readonly service: ServiceProcess;
  /** Coins that it could still hand out; undefined: it hands out the same one for ever. */
  readonly inStock: (() => Promise<number>) | undefined;
  readonly rounds: Round[];
}

interface Round {
  readonly perSecond: number;
  /** Processor time, in microseconds a coin. */
  readonly serviceUs: number;
  readonly clientUs: number;
  readonly postgresUs: number;
  readonly failed: number;
}

runCommand(
  USAGE,
  { rounds: '5', 'warm-up': '1', seconds: '3', tier: 'BRONZE', targets: '1000', connections: '4', workers: '2' },
  async (options): Promise<Outcome> => {
    const [rounds, seconds] = [positive('rounds', options.rounds), positive('seconds', options.seconds)];
    const [targets, workers] = [positive('targets', options.targets), positive('workers', options.workers)];
    const connections = positive('connections', options.connections);
    const spec = COIN_CATEGORIES.find(({ name }) => name === options.tier.toUpperCase());
    if (!spec) throw new Error(`--tier must be one of ${COIN_CATEGORIES.map(({ name }) => name).join(', ')}`);
    // Whoever has 256 calls in flight wants them answered, late rather than never.
    const env = { AQM_LOG_LEVEL: 'error', AQM_MAX_WAIT_MS: '10000', WORKERS: String(workers) };
    const stage = await Stage.open({ postgresSettings: POSTGRES, env, targets, coinsPerTarget: 0, spec });
    const copies: ReturnType<typeof brokenCopy>[] = [];
    const arms: Arm[] = [];
    const others: ServiceProcess[] = [];
    try {
      const ladder: Cut[] = [{ promise: '', what: 'as it ships', edits: [] }, ...cutsFor(spec)];
      for (const [index, { edits: _, ...cut }] of ladder.entries()) {
        const copy = brokenCopy(ladder.slice(0, index + 1).flatMap(({ edits }) => edits));
        copies.push(copy);
        const service = await stage.spawnService(env, join(copy.dist, 'services/coin/aqm.js'));
        // By what is gone from the stock: not all of them record what they hand out.
        arms.push({ ...cut, service, inStock: () => inStock(stage), rounds: [] });
      }
      const once = await OnceAlone.open(stage, spec, workers);
      const echo = await spawnEcho(spec, workers);
      others.push(once.service, echo);
      const none = { promise: '' };
      arms.push({ ...none, what: '"once" alone', service: once.service, inStock: () => once.inStock(), rounds: [] });
      arms.push({ ...none, what: 'empty echo', service: echo, inStock: undefined, rounds: [] });
      const [token = ''] = await stage.tokens(1);
      const load = { token, targets: stage.targets, category: spec.category, connections, seconds };
      const ofRound = (MAX_PER_SECOND * (seconds + LEAD_IN_S + 1)) / targets;
      // Rounds that only warm up come first.
      for (let round = -Number(options['warm-up']); round < rounds; round += 1) {
        // They do not take as much on average.
        const perTarget = Math.ceil((ofRound * ladder.length) / 1.5);
        await stage.stock([{ spec, perUser: Math.max(0, perTarget - (await stage.fewest())) }]);
        await stage.settle();
        await once.stockUp(Math.ceil(ofRound));
        // The order changes, so that none always runs on what another left warm.
        const shift = (round + arms.length) % arms.length;
        for (const arm of [...arms.slice(shift), ...arms.slice(0, shift)]) {
          const result = await runRound(stage, arm, { ...load, address: arm.service.address });
          progress(`round ${round + 1}, ${arm.what}: ${result.perSecond.toFixed(0)} coins/s`);
          if (round >= 0) arm.rounds.push(result);
        }
      }
    } finally {
      for (const other of others) await other.stop();
      await stage.close();
      for (const copy of copies) copy.remove();
    }
    const settings = { rounds, seconds, tier: spec.name, targets, connections, workers, inFlight: IN_FLIGHT };
    return outcomeOf({ ...settings, postgres: POSTGRES }, arms);
  },
);

async function inStock(stage: Stage): Promise<number> {
  const [row] = await stage.query<{ coins: string }>('SELECT count(*) AS coins FROM coin_stock');
  return Number(row?.coins);
}

async function runRound(stage: Stage, arm: Arm, load: FetchLoad): Promise<Round> {
  await stage.query('CHECKPOINT');
  await leadIn(load);
  const cpu = () => ({ service: treeCpuMs(arm.service.child.pid ?? 0), postgres: stage.postgresCpuMs() });
  const [stock, before] = [(await arm.inStock?.()) ?? 0, cpu()];
  const result = await fetchByGhz(load);
  const after = cpu();
  const coins = arm.inStock ? stock - (await arm.inStock()) : result.latency.count;
  const us = (ms: number) => (1000 * ms) / coins;
  return {
    perSecond: coins / result.seconds,
    serviceUs: us(after.service - before.service),
    clientUs: us(result.cpuMs),
    postgresUs: us(after.postgres - before.postgres),
    failed: result.calls - coins,
  };
}

/** What as many coins as GOAL of the echo leave of the processors for each, and what the least and the promises beyond it take of them. */
function budgetOf(arms: readonly Arm[], allUs: (arm: Arm) => number) {
  const [once, echo] = arms.slice(-2).map(allUs) as [number, number];
  const beyond = arms.map(({ promise, inOnceAlone }, index) => {
    const [above, arm] = [arms[index - 1], arms[index]];
    return promise !== '' && !inOnceAlone && above && arm ? allUs(above) - allUs(arm) : 0;
  });
  return { goalUs: echo / GOAL, onceUs: once, beyondUs: beyond.reduce((sum, us) => sum + us, 0) };
}

function outcomeOf(settings: object, arms: readonly Arm[]): Outcome {
  const of = ({ rounds }: Arm, what: keyof Round) => median(rounds.map((round) => round[what]));
  const allUs = (arm: Arm) => of(arm, 'serviceUs') + of(arm, 'clientUs') + of(arm, 'postgresUs');
  // Each round against another's of the same turn: the machine is not equally fast all the time.
  const against = (other: Arm | undefined, { rounds }: Arm) =>
    median(rounds.map(({ perSecond }, index) => perSecond / (other?.rounds[index]?.perSecond ?? perSecond)));
  const summary = arms.map((arm) => ({
    promise: arm.promise,
    without: arm.what,
    perSecond: of(arm, 'perSecond'),
    ofWhole: against(arms[0], arm),
    ofEcho: against(arms.at(-1), arm),
    serviceUs: of(arm, 'serviceUs'),
    clientUs: of(arm, 'clientUs'),
    postgresUs: of(arm, 'postgresUs'),
    allUs: allUs(arm),
    rounds: arm.rounds,
  }));
  const budget = budgetOf(arms, allUs);
  const percent = (share: number) => `${(100 * share).toFixed(0)} %`;
  const sound = arms.filter(({ collides }) => !collides).flatMap(({ rounds }) => rounds);
  const failed = sound.reduce((sum, round) => sum + round.failed, 0);
  return {
    name: 'promises',
    table: [
      columns([
        [
          'without, and without those above',
          'promise',
          'coins/s',
          'of whole',
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
      `${GOAL} of the echo leaves ${budget.goalUs.toFixed(0)} µs a coin; "once" alone takes ${budget.onceUs.toFixed(0)}, the promises beyond it ${budget.beyondUs.toFixed(0)}`,
    ].join('\n'),
    json: { settings, summary, budget },
    svg: bars(
      'Coins fetched a second without what keeps a promise, and those above: median of the rounds, and what they spanned',
      arms.map((arm) => ({
        name: arm.what,
        value: of(arm, 'perSecond'),
        from: Math.min(...arm.rounds.map(({ perSecond }) => perSecond)),
        to: Math.max(...arm.rounds.map(({ perSecond }) => perSecond)),
      })),
      '/s',
    ),
    verdicts: [verdict(failed === 0, `every call was answered, with a coin: ${failed} were not`)],
  };
}
