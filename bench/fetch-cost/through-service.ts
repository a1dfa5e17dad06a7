import { randomUUID } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { CoinServiceClient, FetchCoinsRequest } from '../../gen/aqm/coin/v1/coin_service';
import { developmentKey, issueToken } from '../../services/coin/identity/development-key';
import { call } from '../../testkit/call';
import { type ServiceProcess, spawnMain, spawnProgram } from '../../testkit/service-process';
import { connect, type Effort, ROUNDS_PER_FILL, type Round, run, type Scenario, Stock } from './scenario';

const HOUR_S = 3600;
/** Coins per user, in fetches; more than the rounds take from half of the users. */
const FETCHES_PER_USER = 25;

/** A service with a client. */
interface Served {
  readonly variant: 'ours' | 'plain, usual';
  readonly process: ServiceProcess;
  readonly client: CoinServiceClient;
  readonly token: string;
}

/**
 * Measures FetchCoins with several concurrent callers, alternately on the service as shipped and on the same service
 * with the plain claim as its store. Each is a separate process, on tables that hold the same coins.
 */
export async function measureThroughService(url: string, scenario: Scenario, effort: Effort): Promise<Round[]> {
  const setUp = await connect(url);
  const stock = await Stock.create(setUp, scenario);
  await stock.empty();
  const rounds: Round[] = [];
  const served = [await serve('ours', url), await serve('plain, usual', url)];
  try {
    for (let round = -ROUNDS_PER_FILL; round < effort.rounds; round++) {
      if (round % ROUNDS_PER_FILL === 0) await stock.fill(FETCHES_PER_USER);
      for (const { variant, client, token } of round % 2 === 0 ? served : [...served].reverse()) {
        const fetchCoins = client.fetchCoins.bind(client);
        const speed = await run(effort, stock.usersOf(variant), async (targetUserId) => {
          const wanted = { targetUserId, coinCategory: scenario.spec.category, count: scenario.count };
          const request = FetchCoinsRequest.create({ ...wanted, requestId: randomUUID() });
          const { coins } = await call(fetchCoins, request, token);
          if (coins.length !== scenario.count)
            throw new Error(`${variant}: ${coins.length} of ${scenario.count} coins`);
        });
        if (round >= 0) rounds.push({ variant, ...speed });
      }
    }
  } finally {
    for (const { client, process } of served) {
      client.close();
      await process.stop();
    }
    await setUp.end();
  }
  return rounds;
}

async function serve(variant: Served['variant'], url: string): Promise<Served> {
  const dataDir = mkdtempSync(join(tmpdir(), 'aqm-fetch-cost-'));
  const env = { DATABASE_URL: url, AQM_LOG_LEVEL: 'error' };
  const process =
    variant === 'ours'
      ? await spawnMain(dataDir, env)
      : await spawnProgram(join(__dirname, 'plain-service.js'), dataDir, env);
  const requester = { userId: randomUUID(), isAdmin: false, ttlSeconds: HOUR_S, now: new Date() };
  return {
    variant,
    process,
    client: new CoinServiceClient(process.address, credentials.createInsecure()),
    token: await issueToken(developmentKey(dataDir).privateKey, requester),
  };
}
