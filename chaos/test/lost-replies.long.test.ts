import { createPublicKey, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import { CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { issueToken } from '../../services/coin/identity/development-key';
import { DIST } from '../../testkit/broken-copy';
import { startService, type TestService } from '../../testkit/service';
import { Caller } from '../service/caller';
import { mint } from '../service/coin-bytes';
import type { FetchItem } from '../service/history';
import { ManagedService } from '../service/managed-service';
import { Recorder } from '../service/recorder';
import { TcpLink } from '../service/tcp-link';

const BRONZE = CoinCategory.COIN_CATEGORY_BRONZE;
const DEADLINE_MS = 120_000;
const ROUNDS = 10;
const CALLERS = 100;
/** The rounds in which the service is killed after it has taken the coins. In the others only its replies are lost. */
const KILLS = [3, 7];

let service: TestService;
let folder: string;
let front: TcpLink;
/** The first loses its replies and is killed; the second takes half of the repeats. */
let services: ManagedService[];
const recorder = new Recorder();
const callers: Caller[] = [];

beforeAll(async () => {
  service = await startService();
  folder = mkdtempSync(join(tmpdir(), 'aqm-lost-replies-'));
  const keyFile = join(folder, 'public-key.pem');
  writeFileSync(keyFile, createPublicKey(service.privateKey).export({ type: 'spki', format: 'pem' }));
  // Each fetch must take its coins at the first attempt, so a busy machine must not refuse it.
  const unhurried = { AQM_MAX_WAIT_MS: '60000' };
  const env = { ...service.database.env, ...unhurried, AQM_TOKEN_PUBLIC_KEY_FILE: keyFile, AQM_DATA_DIR: folder };
  front = await TcpLink.open();
  services = [front, await TcpLink.open()].map((link) => new ManagedService(DIST, link, env));
  await Promise.all(services.map((one) => one.start()));
});
afterAll(async () => {
  for (const one of callers) one.close();
  await Promise.all(services.map((one) => one.close()));
  await service.stop();
  rmSync(folder, { recursive: true });
});

async function caller(): Promise<Caller> {
  const userId = randomUUID();
  const token = await issueToken(service.privateKey, { userId, isAdmin: false, ttlSeconds: 3600, now: new Date() });
  const addresses = services.map((one) => `127.0.0.1:${one.front.port}`);
  const made = new Caller({
    name: userId,
    userId,
    token: async () => ({ token, key: undefined }),
    addresses,
    recorder,
  });
  callers.push(made);
  return made;
}

async function rows(table: 'coin_fetch' | 'coin_stock'): Promise<number> {
  const found = await sql<{ count: number }>`SELECT count(*)::int AS count FROM ${sql.table(table)}`.execute(
    service.database.db,
  );
  return found.rows[0]?.count ?? 0;
}

test('fetches whose replies are lost and that are repeated take exactly the coins that were requested', async () => {
  const owners = await Promise.all(Array.from({ length: 5 }, caller));
  for (const owner of owners) {
    for (let batch = 0; batch < 5; batch++) {
      const coins = Array.from({ length: 100 }, () => mint(BRONZE, undefined));
      expect((await owner.upload(1, coins, DEADLINE_MS)).failure).toBeUndefined();
    }
  }
  const requesters = await Promise.all(Array.from({ length: CALLERS }, caller));
  const [first] = services;
  const got: string[] = [];
  let requested = 0;
  for (let round = 1; round <= ROUNDS; round++) {
    // With the connections open, the requests below reach the service although no reply comes back.
    for (const count of await Promise.all(requesters.map((requester) => requester.count(0, DEADLINE_MS))))
      expect(count).toBeDefined();
    const items = requesters.map(
      (_, index): FetchItem => ({
        targetUserId: owners[index % owners.length]?.userId ?? '',
        deviceId: '',
        category: BRONZE,
        count: 1 + ((index + round) % 3),
        allowLower: false,
        requestId: randomUUID(),
      }),
    );
    requested += items.reduce((sum, item) => sum + item.count, 0);

    front.dropReplies();
    const lost = Promise.all(
      requesters.map((requester, index) => requester.fetch(0, items.slice(index, index + 1), DEADLINE_MS)),
    );
    const ended = lost.then((calls) => {
      throw new Error(`not every fetch took its coins: ${JSON.stringify(calls.map((call) => call.failure))}`);
    });
    const isTaken = async () => (await rows('coin_fetch')) === round * CALLERS;
    while (!(await Promise.race([isTaken(), ended])));
    ended.catch(() => {});
    if (KILLS.includes(round)) await first?.kill();
    else front.cut();
    for (const call of await lost) expect(call.failure).toEqual({ code: 'UNAVAILABLE', reason: '' });
    front.flow();
    if (KILLS.includes(round)) await first?.start();

    const repeats = await Promise.all(
      requesters.map((requester, index) =>
        requester.fetch((index + round) % 2, items.slice(index, index + 1), DEADLINE_MS),
      ),
    );
    for (const {
      items: [answer],
    } of repeats) {
      expect(answer?.coins).toHaveLength(answer?.count ?? -1);
      got.push(...(answer?.coins ?? []).map((coin) => coin.keyId));
    }
  }
  expect(new Set(got).size).toBe(requested);
  expect(await rows('coin_fetch')).toBe(ROUNDS * CALLERS);
  expect(await rows('coin_stock')).toBe(2500 - requested);
});
