import { credentials } from '@grpc/grpc-js';
import { type CoinServiceProcess, startCoinService } from '../../../testkit/coin-service-process';
import { keyId, publicHalf } from '../../conformance/harness';
import { COIN_CATEGORY_NAMES, specOf } from '../../contract/coin-category';
import { callService } from '../../flows/service-call';
import { type CoinServiceAccess, CoinServiceClient } from '../../index';
import { BUDGETS, type Flow } from './child';
import { WALKED_BACKENDS, type WalkedBackend } from './device';
import { type Lane, stockOf, walkKillPoints, walkLanes } from './kill-walk';

const ALICE = keyId(2);
const STOCK_PER_CATEGORY = 200;

let process: CoinServiceProcess;
let client: CoinServiceClient;
beforeAll(async () => {
  process = await startCoinService();
  client = new CoinServiceClient(process.address, credentials.createInsecure());
});
afterAll(async () => {
  client?.close();
  await process?.stop();
});

/** A user with a full stock. */
async function peerWithStock(user: string): Promise<CoinServiceAccess> {
  const [token] = process.tokens(user) as [string];
  const service = { client, token: () => token };
  for (const name of COIN_CATEGORY_NAMES) {
    for (let from = 0; from < STOCK_PER_CATEGORY; from += 100) {
      const coins = Array.from({ length: 100 }, (_, n) => {
        const { publicKey, signature } = publicHalf(n, name);
        return {
          keyId: keyId(specOf(name).preference * 10_000 + from + n),
          coinCategory: specOf(name).category,
          publicKey: Buffer.from(publicKey),
          signature: Buffer.from(signature),
          expireTime: undefined,
        };
      });
      await callService(service, client.uploadCoins, { coins, databaseEpoch: '' });
    }
  }
  return service;
}

/** Walks the flow; after every round, what left the server must be on the device, unused or used once. */
async function walk(backend: WalkedBackend, flow: Flow, lane: Lane, user: string, returned: string[]): Promise<number> {
  const peer = await peerWithStock(user);
  const [token] = process.tokens(ALICE) as [string];
  const device = backend.device(`${flow}-${lane}`);
  let settled = 0;
  const last = await walkKillPoints(
    lane,
    () => ({ flow, device, first: 0, address: process.address, token, peer: user }),
    async ({ resumed, done }) => {
      returned.push(...(resumed ?? []), ...(done ?? []));
      expect(new Set(returned).size).toBe(returned.length);
      const { coins, used } = await backend.read(device);
      expect(returned.filter((id) => !used.includes(id))).toStrictEqual([]);
      expect(coins.filter((id) => used.includes(id))).toStrictEqual([]);
      for (const name of COIN_CATEGORY_NAMES) {
        const prefix = (id: string) =>
          Math.floor(Number.parseInt(id.slice(-12), 16) / 10_000) === specOf(name).preference;
        expect(coins.filter(prefix).length).toBeLessThanOrEqual(BUDGETS.BESTIE[name]);
      }
      const stock = Object.values(await stockOf(peer)).reduce((sum, count) => sum + count, 0);
      const left = COIN_CATEGORY_NAMES.length * STOCK_PER_CATEGORY - stock;
      // A reply that the dead process did not store is still owed to it, but what was settled before is not.
      expect(coins.length + used.length).toBeGreaterThanOrEqual(settled);
      expect(coins.length + used.length).toBeLessThanOrEqual(left);
      settled = left;
    },
  );
  const { coins, used } = await backend.read(device);
  expect(coins.length + used.length).toBe(settled);
  return last;
}

const FETCHING = 'a device process killed between any two steps, against the real service, on %s';

describe.each(WALKED_BACKENDS)(FETCHING, (_, backend, { topUp, onDemand, firstUser }) => {
  beforeAll(() => backend.start());
  afterAll(() => backend.stop());

  it('of topping up loses no coin, uses none twice, and holds the budgets', async () => {
    const returned: string[][] = [[], []];
    const boundaries = await walkLanes((lane) =>
      walk(backend, 'top-up', lane, keyId(firstUser + lane), returned[lane - 1] ?? []),
    );
    expect(boundaries).toBeGreaterThanOrEqual(topUp);
    expect(returned.flat().length).toBeGreaterThan(boundaries);
  });

  it('of fetching on demand loses at most the coin that was being handed over, and uses none twice', async () => {
    const returned: string[][] = [[], []];
    const boundaries = await walkLanes((lane) =>
      walk(backend, 'fetch-on-demand', lane, keyId(firstUser + 10 + lane), returned[lane - 1] ?? []),
    );
    expect(boundaries).toBeGreaterThanOrEqual(onDemand);
    expect(returned.flat().length).toBeGreaterThanOrEqual(boundaries);
  });
});
