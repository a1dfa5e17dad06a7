import { bars } from '../harness/bars';
import { BATCH_USAGE, type BenchResult, batchOf, runCommand } from '../harness/command';
import { columns, type Latency, latencyOf, median, positive, progress, verdict } from '../harness/numbers';
import { TestBed } from '../harness/test-bed';
import { copyRows } from './copy';
import { BATCH, Uploaders } from './uploaders';

const USAGE = `Usage: npm run bench -- upload [--rounds 5] [--seconds 4] [--concurrency 8] [--users 1000] ${BATCH_USAGE}
                               [--out docs/performance]

  Measures the throughput of uploads of ${BATCH} coins, a third of each category. Compares it with
  COPY of the same rows into the same tables, in alternating rounds: COPY is the upper limit that
  PostgreSQL sets. Only coins answered as inserted count. --concurrency is the number of concurrent
  uploads. Settings in the environment reach the service. Exit code 1: fewer than 10,000 coins/s and
  less than 0.7 of COPY.`;

const POSTGRES = ['shared_buffers=1GB', 'max_wal_size=8GB', 'checkpoint_timeout=1h'];
const CONNECTIONS = 8;

interface Round {
  readonly perSecond: number;
  readonly copyPerSecond: number;
  readonly latency: Latency;
  readonly failures: Readonly<Record<string, number>>;
  /** Processor time, in microseconds per coin. */
  readonly cpuUs: { readonly service: number; readonly generator: number; readonly postgres: number };
}

runCommand(
  USAGE,
  { rounds: '5', seconds: '4', concurrency: '8', users: '1000', batch: '' },
  async (options): Promise<BenchResult> => {
    const [rounds, seconds] = [positive('rounds', options.rounds), positive('seconds', options.seconds)];
    const [concurrency, users] = [positive('concurrency', options.concurrency), positive('users', options.users)];
    const testBed = await TestBed.open({
      postgresSettings: POSTGRES,
      env: { AQM_LOG_LEVEL: 'error', ...batchOf(options.batch) },
      targets: 0,
      coinsPerTarget: 0,
    });
    const uploaders = new Uploaders(testBed.service.address, await testBed.tokens(users), CONNECTIONS);
    const results: Round[] = [];
    try {
      // The first round is a warm-up.
      for (let round = -1; round < rounds; round += 1) {
        const result = await runRound(testBed, uploaders, concurrency, seconds);
        progress(
          `round ${round + 1}: ${result.perSecond.toFixed(0)} coins/s, COPY ${result.copyPerSecond.toFixed(0)}/s`,
        );
        if (round >= 0) results.push(result);
      }
    } finally {
      uploaders.close();
      await testBed.close();
    }
    return resultOf(
      {
        rounds,
        seconds,
        concurrency,
        users,
        ...batchOf(options.batch),
        batch: BATCH,
        connections: CONNECTIONS,
        postgres: POSTGRES,
      },
      results,
    );
  },
);

async function runRound(testBed: TestBed, uploaders: Uploaders, concurrency: number, seconds: number): Promise<Round> {
  await testBed.query('CHECKPOINT');
  const cpu = () => {
    const { user, system } = process.cpuUsage();
    return { generator: (user + system) / 1000, service: testBed.serviceCpuMs(), postgres: testBed.postgresCpuMs() };
  };
  const durations: number[] = [];
  const failures: Record<string, number> = {};
  let inserted = 0;
  const [before, begin] = [cpu(), performance.now()];
  const worker = async (): Promise<void> => {
    for (let start = performance.now(); start - begin < seconds * 1000; start = performance.now()) {
      const answer = await uploaders.upload();
      inserted += answer.inserted;
      if (answer.failure) failures[answer.failure] = (failures[answer.failure] ?? 0) + 1;
      else durations.push(performance.now() - start);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  const [ms, after] = [performance.now() - begin, cpu()];
  const us = (of: 'generator' | 'service' | 'postgres') => (1000 * (after[of] - before[of])) / inserted;
  const copied = await copyRows(testBed, inserted);
  return {
    perSecond: (1000 * inserted) / ms,
    copyPerSecond: copied.rows / copied.seconds,
    latency: latencyOf(durations),
    failures,
    cpuUs: { generator: us('generator'), service: us('service'), postgres: us('postgres') },
  };
}

function resultOf(settings: object, rounds: readonly Round[]): BenchResult {
  const of = (value: (round: Round) => number) => median(rounds.map(value));
  const [perSecond, copyPerSecond] = [of((round) => round.perSecond), of((round) => round.copyPerSecond)];
  const ratio = perSecond / copyPerSecond;
  const failed = rounds.flatMap(({ failures }) => Object.values(failures)).reduce((sum, calls) => sum + calls, 0);
  const bar = (name: string, value: (round: Round) => number) => {
    const values = rounds.map(value);
    return { name, value: median(values), from: Math.min(...values), to: Math.max(...values) };
  };
  return {
    name: 'upload',
    table: columns([
      ['', 'coins/s', 'batch p50', 'batch p99', 'service µs', 'client µs', 'PG µs', 'failed'],
      [
        `UploadCoins, batches of ${BATCH}`,
        perSecond.toFixed(0),
        `${of(({ latency }) => latency.p50).toFixed(1)} ms`,
        `${of(({ latency }) => latency.p99).toFixed(1)} ms`,
        of(({ cpuUs }) => cpuUs.service).toFixed(1),
        of(({ cpuUs }) => cpuUs.generator).toFixed(1),
        of(({ cpuUs }) => cpuUs.postgres).toFixed(1),
        failed,
      ],
      ['COPY of the same rows', copyPerSecond.toFixed(0)],
    ]),
    json: { settings, perSecond, copyPerSecond, ratio, rounds },
    svg: bars(
      'Coins stored per second: median and range of the rounds',
      [bar('UploadCoins', (round) => round.perSecond), bar('COPY', (round) => round.copyPerSecond)],
      '/s',
    ),
    verdicts: [
      verdict(
        perSecond >= Math.min(10_000, 0.7 * copyPerSecond),
        `at least 10,000 coins/s, or 0.7 times COPY if that is less: ${perSecond.toFixed(0)}/s, ${ratio.toFixed(2)} times COPY`,
      ),
      verdict(failed === 0, `every upload was answered: ${failed} were not`),
    ],
  };
}
