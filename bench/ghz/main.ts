import { randomUUID } from 'node:crypto';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { type Outcome, runCommand } from '../service/command';
import { type GhzResult, ghzProgram } from '../service/ghz';
import { columns, positive, verdict } from '../service/numbers';
import { Stage } from '../service/stage';
import { type Configuration, configurations, runConfiguration, TARGETS } from './configurations';

const USAGE = `Usage: npm run bench -- ghz [--only FetchCoins] [--total 0] [--address 127.0.0.1:50051 --token JWT] [--out docs/performance]
  Runs ghz with each configuration of bench/ghz/, one for every method, against a service of its own, or against one that runs (the token
  needs the admin scope for the purges). ghz is found on PATH, in GOBIN or in GOPATH, or built with Go. One configuration alone:
  ghz --config bench/ghz/fetch-coins.json -m '{"authorization":"Bearer JWT"}'`;

/** More than the configurations ask for. */
const COINS_PER_TARGET = 5000;

interface Service {
  readonly address: string;
  readonly token: string;
  close(): Promise<void>;
}

runCommand(USAGE, { only: '', total: '0', address: '', token: '' }, async (options): Promise<Outcome> => {
  const chosen = configurations().filter(({ name }) => options.only === '' || name === options.only);
  if (chosen.length === 0) throw new Error(`no configuration has the name ${options.only}`);
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
        `every call of every configuration was answered: ${failed.map(({ configuration }) => configuration.name).join() || 'none failed'}`,
      ),
    ],
  };
});

async function ownService(): Promise<Service> {
  const stage = await Stage.open({ env: { AQM_LOG_LEVEL: 'error' }, targets: TARGETS, coinsPerTarget: 0 });
  await stage.stock(COIN_CATEGORIES.map((spec) => ({ spec, perUser: COINS_PER_TARGET })));
  const token = await stage.token(randomUUID(), true);
  return { address: stage.service.address, token, close: () => stage.close() };
}
