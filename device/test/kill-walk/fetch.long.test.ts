import { credentials } from '@grpc/grpc-js';
import { CoinServiceClient } from '../../../gen/aqm/coin/v1/coin_service';
import { startService, type TestService } from '../../../testkit/service';
import { keyId, publicHalf } from '../../conformance/harness';
import { COIN_CATEGORY_NAMES, specOf } from '../../contract/coin-category';
import { callService } from '../../flows/service-call';
import type { CoinServiceAccess } from '../../index';
import { WALKED_BACKENDS, type WalkedBackend } from './device';
import { BUDGETS, type Flow } from './job';
import { stockOf, type Walk, walkKillPoints } from './kill-walk';

const STOCK_PER_CATEGORY = 200;
/** Longer than a full walk takes on a busy machine. */
const TOKEN_TTL_SECONDS = 4 * 3600;

let service: TestService;
let client: CoinServiceClient;
beforeAll(async () => {
  service = await startService();
  client = new CoinServiceClient(service.address, credentials.createInsecure());
});
afterAll(async () => {
  client?.close();
  await service?.stop();
});

/** Creates a user with a full stock. Returns the id and the user's own access. */
async function peerWithStock(): Promise<{ readonly id: string; readonly access: CoinServiceAccess }> {
  const { id, token } = await service.user({ ttlSeconds: TOKEN_TTL_SECONDS });
  const access = { client, token: () => token };
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
          deviceId: '',
        };
      });
      await callService(access, client.uploadCoins, { coins, databaseEpoch: '', deviceId: '' });
    }
  }
  return { id, access };
}

/**
 * Walks a flow that fetches. After every round, the coins that left the server must be on the device, unused or used
 * once. Adds the ids that the flow returned to `returned`, and returns the walk's size.
 */
async function walk(backend: WalkedBackend, flow: Flow, returned: string[]): Promise<Walk> {
  const peer = await peerWithStock();
  const { token } = await service.user({ ttlSeconds: TOKEN_TTL_SECONDS });
  const device = backend.device(flow);
  let settled = 0;
  const size = await walkKillPoints(
    () => ({ flow, device, first: 0, address: service.address, token, peer: peer.id }),
    async ({ resumed, done }) => {
      returned.push(...(resumed ?? []), ...(done ?? []));
      const { coins, used } = await backend.read(device);
      expect(returned.filter((id) => !used.includes(id))).toStrictEqual([]);
      expect(coins.filter((id) => used.includes(id))).toStrictEqual([]);
      for (const name of COIN_CATEGORY_NAMES) {
        const isOfCategory = (id: string) =>
          Math.floor(Number.parseInt(id.slice(-12), 16) / 10_000) === specOf(name).preference;
        expect(coins.filter(isOfCategory).length).toBeLessThanOrEqual(BUDGETS.BESTIE[name]);
      }
      const stock = Object.values(await stockOf(peer.access)).reduce((sum, count) => sum + count, 0);
      const left = COIN_CATEGORY_NAMES.length * STOCK_PER_CATEGORY - stock;
      // A reply that the dead process did not store is still owed to it; what was settled before that is not.
      expect(coins.length + used.length).toBeGreaterThanOrEqual(settled);
      expect(coins.length + used.length).toBeLessThanOrEqual(left);
      settled = left;
    },
  );
  const { coins, used } = await backend.read(device);
  expect(coins.length + used.length).toBe(settled);
  return size;
}

const FETCHING = 'a device process killed between any two steps, against the real service, on %s';

describe.each(WALKED_BACKENDS)(FETCHING, (_, backend, { topUp, onDemand }) => {
  beforeAll(() => backend.start());
  afterAll(() => backend.stop());

  it('of topping up loses no coin, uses none twice, and keeps within the budgets', async () => {
    const returned: string[] = [];
    const { boundaries, rounds } = await walk(backend, 'top-up', returned);
    expect(boundaries).toBeGreaterThanOrEqual(topUp);
    expect(returned.length).toBeGreaterThan(rounds);
  });

  it('of fetching on demand loses at most the coin that was being handed over, and uses none twice', async () => {
    const returned: string[] = [];
    const { boundaries, rounds } = await walk(backend, 'fetch-on-demand', returned);
    expect(boundaries).toBeGreaterThanOrEqual(onDemand);
    expect(returned.length).toBeGreaterThanOrEqual(rounds);
  });
});
