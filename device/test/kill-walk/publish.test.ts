import { credentials } from '@grpc/grpc-js';
import { type CoinServiceProcess, startCoinService } from '../../../testkit/coin-service-process';
import { type ChildConfig, keyId, vaultKey } from '../../conformance/harness';
import { openInChild } from '../../conformance/open-in-child';
import { CoinServiceClient } from '../../index';
import type { Flow } from './child';
import { WALKED_BACKENDS } from './device';
import { drainStock, type Lane, walkKillPoints, walkLanes } from './kill-walk';

const ALICE = keyId(9);

const local = (flow: Flow, device: ChildConfig) => (round: number) => ({
  flow,
  device,
  first: round,
  address: '127.0.0.1:1',
  token: '',
  peer: ALICE,
});

describe.each(WALKED_BACKENDS)('a device process killed between any two steps, on %s', (_, backend, expected) => {
  beforeAll(() => backend.start());
  afterAll(() => backend.stop());

  it('of making its storage leaves one that opens', async () => {
    const boundaries = await walkLanes((lane) =>
      walkKillPoints(
        lane,
        (round) => local('open', backend.device(`open-${lane}-${round}`))(round),
        async ({ killAt }) => {
          const storage = await openInChild(backend.device(`open-${lane}-${killAt}`));
          expect(await storage.vault.storeKey(vaultKey(1))).toBe(true);
          await storage.close();
        },
      ),
    );
    expect(boundaries).toBeGreaterThanOrEqual(expected.opening);
  });

  it('of selecting never uses a coin twice: it is still there, or gone for good', async () => {
    const boundaries = await walkLanes((lane) => {
      const device = backend.device(`select-${lane}`);
      const stored: string[] = [];
      const returned: string[] = [];
      return walkKillPoints(lane, local('select', device), async ({ resumed, done }) => {
        const { coins, used } = await backend.read(device);
        stored.push(...(resumed ?? []));
        returned.push(...(done ?? []));
        expect(stored.filter((id) => !coins.includes(id) && !used.includes(id))).toStrictEqual([]);
        expect(new Set(returned).size).toBe(returned.length);
        expect(coins.filter((id) => used.includes(id))).toStrictEqual([]);
        expect(returned.filter((id) => !used.includes(id))).toStrictEqual([]);
      });
    });
    expect(boundaries).toBeGreaterThanOrEqual(expected.operation);
  });

  it('of burning leaves the key whole or burned for ever', async () => {
    const boundaries = await walkLanes((lane) => {
      const device = backend.device(`burn-${lane}`);
      return walkKillPoints(lane, local('burn', device), async ({ killAt, done }) => {
        const { vault, close } = await openInChild(device);
        if (killAt > 0) {
          const status = await vault.getStatus(keyId(killAt));
          const entry = await vault.fetchKey(keyId(killAt));
          if (done !== null) expect(status).toBe('BURNED');
          if (status === 'ACTIVE') expect(entry?.encryptedBlob).toStrictEqual(vaultKey(killAt).encryptedBlob);
          else expect([status, entry]).toStrictEqual(['BURNED', null]);
          expect(await vault.storeKey(vaultKey(killAt))).toBe(false);
        }
        await close();
      });
    });
    expect(boundaries).toBeGreaterThanOrEqual(expected.operation);
  });
});

const PUBLISHING = 'a device process killed between any two steps of publishing, against the real service, on %s';

describe.each(WALKED_BACKENDS)(PUBLISHING, (_, backend, expected) => {
  let process: CoinServiceProcess;
  let client: CoinServiceClient;
  beforeAll(async () => {
    await backend.start();
    process = await startCoinService();
    client = new CoinServiceClient(process.address, credentials.createInsecure());
  });
  afterAll(async () => {
    client?.close();
    await process?.stop();
    await backend.stop();
  });

  it('publishes after restart exactly the coins whose private half it has', async () => {
    const walk = async (lane: Lane) => {
      const user = keyId(lane);
      const device = backend.device(`publish-${lane}`);
      const [token, alice] = process.tokens(user, ALICE) as [string, string];
      const handedOut: string[] = [];
      const first = (round: number) => 1000 + round * 10;
      const last = await walkKillPoints(
        lane,
        (round) => ({ flow: 'publish', device, first: first(round), address: process.address, token, peer: ALICE }),
        async ({ killAt }) => {
          handedOut.push(...(await drainStock({ client, token: () => alice }, user)));
          const { keys, outbox } = await backend.read(device);
          expect(new Set(handedOut).size).toBe(handedOut.length);
          // Whatever was handed out can be opened, also while its publisher is dead.
          expect(handedOut.filter((id) => !keys.includes(id))).toStrictEqual([]);
          // What is not out yet waits: nothing is lost on the way.
          expect(keys.filter((id) => !handedOut.includes(id) && !outbox.includes(id))).toStrictEqual([]);
          // Of every round all private halves are there, or none.
          const ofThisRound = [0, 1, 2].map((n) => keyId(first(killAt) + n)).filter((id) => keys.includes(id));
          expect([0, 3]).toContain(ofThisRound.length);
        },
      );
      // The last process left nothing open.
      const { keys, outbox } = await backend.read(device);
      expect([keys.sort(), outbox]).toStrictEqual([handedOut.sort(), []]);
      return last;
    };
    expect(await walkLanes(walk)).toBeGreaterThanOrEqual(expected.publish);
  });
});
