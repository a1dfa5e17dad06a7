import { randomUUID } from 'node:crypto';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { type BenchResult, runCommand } from '../harness/command';
import { type GhzResult, ghzProgram } from '../harness/ghz';
import { columns, positive, verdict } from '../harness/numbers';
import { TestBed } from '../harness/test-bed';
import { type Configuration, configurations, runConfiguration, TARGETS } from './configurations';

const USAGE = `Usage: npm run bench -- ghz [--only FetchCoins] [--total 0] [--address 127.0.0.1:50051 --token JWT]
                            [--out docs/performance]

  Measures throughput and latency of every method with ghz, by the configurations in bench/ghz/, one
  per method. It compares nothing; use it to look at one method, or at a deployed service. It starts
  its own service, or calls the one at --address (the token needs the admin scope for the purges).
  ghz is looked up on PATH, in GOBIN and in GOPATH, or built with Go.

  To run one configuration by hand:
  ghz --config bench/ghz/fetch-coins.json -m '{"authorization":"Bearer JWT"}'`;

/** More coins than the configurations fetch. */
const COINS_PER_TARGET = 5000;

interface Service {
  readonly address: string;
  readonly token: string;
  close(): Promise<void>;
}

runCommand(USAGE, { only: '', total: '0', address: '', token: '' }, async (options): Promise<BenchResult> => {
  const chosen = configurations().filter(({ name }) => options.only === '' || name === options.only);
  if (chosen.length === 0) throw new Error(`unknown configuration "${options.only}"; see bench/ghz/`);
  if (options.total !== '0') positive('total', options.total);
  ghzProgram();
  const service = options.address === '' ? await ownService() : { ...options, close: async () => {} };
  const total = options.total === '0' ? {} : { total: Number(options.total) };
  const results: { configuration: Configuration; result: GhzResult }[] = [];
  try {
    for (const configuration of chosen) {
      const { address, token } = service;
      results.push({ configuration, result: await runConfiguration(configuration, { address, token, ...total }) });
    }
  } finally {
    await service.close();
  }
  const rows = results.map(({ configuration: { name }, result: { calls, seconds, latency, failures } }) => [
    name,
    calls,
    (latency.count / seconds).toFixed(0),
    ...[latency.p50, latency.p95, latency.p99].map((ms) => ms.toFixed(1)),
    calls - latency.count,
    `  ${Object.keys(failures).join()}`,
  ]);
  const failed = results.filter(({ result }) => result.calls === 0 || result.calls > result.latency.count);
  return {
    name: 'ghz',
    table: columns([['', 'calls', 'answered/s', 'p50 ms', 'p95 ms', 'p99 ms', 'failed', ''], ...rows]),
    json: { results: results.map(({ configuration, result }) => ({ name: configuration.name, ...result })) },
    verdicts: [
      verdict(
        failed.length === 0,
        `every call of every configuration was answered; failed: ${failed.map(({ configuration }) => configuration.name).join() || 'none'}`,
      ),
    ],
  };
});

async function ownService(): Promise<Service> {
  const testBed = await TestBed.open({ env: { AQM_LOG_LEVEL: 'error' }, targets: TARGETS, coinsPerTarget: 0 });
  await testBed.stock(COIN_CATEGORIES.map((spec) => ({ spec, perUser: COINS_PER_TARGET })));
  const token = await testBed.token(randomUUID(), true);
  return { address: testBed.service.address, token, close: () => testBed.close() };
}
