import { randomUUID } from 'node:crypto';
import { credentials } from '@grpc/grpc-js';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { CoinServiceClient, DeviceCoinsRequest, FetchCoinsRequest } from '../../gen/aqm/coin/v1/coin_service';
import { call } from '../../testkit/call';
import { type BenchResult, runCommand } from '../harness/command';
import { columns, latencyOf, positive, progress, verdict } from '../harness/numbers';
import { TestBed } from '../harness/test-bed';

const USAGE = `Usage: npm run bench -- devices [--users 6] [--devices 50] [--calls 300] [--singles 30] [--tier SILVER]
                                [--out docs/performance]

  Measures one FetchDeviceCoins that takes a coin of every device of several users, one call at a time,
  beside as many FetchCoins as there are devices, all sent at once over one connection. Both are repeated
  in turn. One call over 300 devices should have a p99 below 100 ms. Exit code 1: a device got no coin, a
  coin was handed out twice, or the p99 is too high.`;

const POSTGRES = ['shared_buffers=1GB', 'max_wal_size=8GB', 'checkpoint_timeout=1h'];
const ENV = { AQM_LIMITS: 'off', AQM_LOG_LEVEL: 'error', AQM_MAX_WAIT_MS: '60000', AQM_CONNECT_TIMEOUT_MS: '60000' };
const GOAL_MS = 100;
/** Calls before the measurement: until then PostgreSQL plans the statement each time, and V8 compiles. */
const WARM_UP = 20;

const DEFAULTS = { users: '6', devices: '50', calls: '300', singles: '30', tier: 'SILVER' };

runCommand(USAGE, DEFAULTS, async (options): Promise<BenchResult> => {
  const [users, devices] = [positive('users', options.users), positive('devices', options.devices)];
  const [calls, singles] = [positive('calls', options.calls), positive('singles', options.singles)];
  const spec = COIN_CATEGORIES.find(({ name }) => name === options.tier.toUpperCase());
  if (!spec) throw new Error(`--tier must be one of ${COIN_CATEGORIES.map(({ name }) => name).join(', ')}`);
  const testBed = await TestBed.open({ postgresSettings: POSTGRES, env: ENV, targets: users, coinsPerTarget: 0 });
  const handedOut = new Set<string>();
  let coins = 0;
  const took = { call: [] as number[], singles: [] as number[], single: [] as number[] };
  try {
    await testBed.stock([{ spec, perUser: WARM_UP + calls + singles + 1 }], testBed.targets, devices);
    const client = new CoinServiceClient(testBed.service.address, credentials.createInsecure());
    const token = await testBed.token(randomUUID());
    const take = (found: readonly { readonly keyId: string }[]): void => {
      coins += found.length;
      for (const { keyId } of found) handedOut.add(keyId);
    };
    const wish = { coinCategory: spec.category, count: 1 };
    let ids: (readonly [user: string, device: string])[] = [];
    const fetchAll = async (): Promise<number> => {
      const items = testBed.targets.map((targetUserId) =>
        DeviceCoinsRequest.create({ ...wish, targetUserId, requestId: randomUUID() }),
      );
      const since = performance.now();
      const { results } = await call(client.fetchDeviceCoins.bind(client), { requests: items }, token);
      const ms = performance.now() - since;
      ids = results.flatMap((result, index) =>
        result.devices.map(({ deviceId }) => [testBed.targets[index] ?? '', deviceId] as const),
      );
      for (const result of results) for (const device of result.devices) take(device.coins);
      return ms;
    };
    const fetchEach = async (): Promise<number> => {
      const start = performance.now();
      await Promise.all(
        ids.map(async ([targetUserId, deviceId]) => {
          const request = FetchCoinsRequest.create({ ...wish, targetUserId, deviceId, requestId: randomUUID() });
          const since = performance.now();
          const answer = await call(client.fetchCoins.bind(client), request, token);
          took.single.push(performance.now() - since);
          take(answer.coins);
        }),
      );
      return performance.now() - start;
    };
    for (let n = 0; n < WARM_UP; n += 1) await fetchAll();
    await fetchEach();
    took.single = [];
    const callsPerRound = Math.ceil(calls / singles);
    while (took.call.length < calls) {
      for (let n = 0; n < callsPerRound && took.call.length < calls; n += 1) took.call.push(await fetchAll());
      if (took.singles.length < singles) took.singles.push(await fetchEach());
    }
    client.close();
  } finally {
    await testBed.close();
  }
  progress(`${coins} coins were handed out`);
  const [one, each, single] = [latencyOf(took.call), latencyOf(took.singles), latencyOf(took.single)];
  const all = users * devices;
  const row = (name: string, { count, p50, p95, p99, max }: typeof one) => [
    name,
    count,
    ...[p50, p95, p99, max].map((ms) => ms.toFixed(1)),
  ];
  const expected = (WARM_UP + took.call.length + took.singles.length + 1) * all;
  return {
    name: 'devices',
    table: columns([
      [`${users} users with ${devices} devices`, 'count', 'p50 ms', 'p95 ms', 'p99 ms', 'max ms'],
      row(`one call for ${all} devices`, one),
      row(`${all} FetchCoins at once, until the last answer`, each),
      row('each of these', single),
    ]),
    json: {
      settings: { users, devices, calls, singles, tier: spec.name, postgres: POSTGRES, service: ENV },
      call: one,
      singles: each,
      single,
    },
    verdicts: [
      verdict(coins === expected, `every device got a coin in every call: ${coins} of ${expected}`),
      verdict(handedOut.size === coins, `no coin was handed out twice: ${handedOut.size} different coins`),
      verdict(one.p99 < GOAL_MS, `the p99 of one call is below ${GOAL_MS} ms: ${one.p99.toFixed(1)} ms`),
    ],
  };
});
