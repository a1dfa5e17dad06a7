import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { keyId, vaultKey } from '../conformance/harness';
import { CoinServiceClient, openDeviceStorage } from '../index';
import { type CoinServiceProcess, startCoinService } from './coin-service-process';
import { drainStock, type Lane, readFile, walkKillPoints, walkLanes } from './kill-walk';
import { type Flow, KILL_WALK_KEY } from './kill-walk-child';

const ALICE = keyId(9);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-kill-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const local = (flow: Flow, path: string) => (round: number) => ({
  flow,
  path,
  first: round,
  address: '127.0.0.1:1',
  token: '',
  peer: ALICE,
});

describe('a device process killed between any two steps', () => {
  it('of making its storage leaves one that opens', async () => {
    const boundaries = await walkLanes((lane) =>
      walkKillPoints(
        lane,
        (round) => local('open', join(folder, `open-${lane}-${round}.db`))(round),
        async ({ killAt }) => {
          const path = join(folder, `open-${lane}-${killAt}.db`);
          const storage = await openDeviceStorage({ backend: 'sqlite', path, key: KILL_WALK_KEY });
          expect(await storage.vault.storeKey(vaultKey(1))).toBe(true);
          await storage.close();
        },
      ),
    );
    expect(boundaries).toBeGreaterThan(10);
  });

  it('of selecting never uses a coin twice: it is still there, or gone for good', async () => {
    const boundaries = await walkLanes((lane) => {
      const path = join(folder, `select-${lane}.db`);
      const stored: string[] = [];
      const returned: string[] = [];
      return walkKillPoints(lane, local('select', path), ({ resumed, done }) => {
        const { coins, used } = readFile(path);
        stored.push(...(resumed ?? []));
        returned.push(...(done ?? []));
        expect(stored.filter((id) => !coins.includes(id) && !used.includes(id))).toStrictEqual([]);
        expect(new Set(returned).size).toBe(returned.length);
        expect(coins.filter((id) => used.includes(id))).toStrictEqual([]);
        expect(returned.filter((id) => !used.includes(id))).toStrictEqual([]);
      });
    });
    expect(boundaries).toBeGreaterThanOrEqual(6);
  });

  it('of burning leaves the key whole or burned for ever', async () => {
    const boundaries = await walkLanes((lane) => {
      const path = join(folder, `burn-${lane}.db`);
      return walkKillPoints(lane, local('burn', path), async ({ killAt, done }) => {
        const { vault, close } = await openDeviceStorage({ backend: 'sqlite', path, key: KILL_WALK_KEY });
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
    expect(boundaries).toBeGreaterThanOrEqual(6);
  });
});

describe('a device process killed between any two steps of publishing, against the real service', () => {
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

  it('publishes after restart exactly the coins whose private half it has', async () => {
    const walk = async (lane: Lane) => {
      const user = keyId(lane);
      const path = join(folder, `publish-${lane}.db`);
      const [token, alice] = process.tokens(user, ALICE) as [string, string];
      const handedOut: string[] = [];
      const first = (round: number) => 1000 + round * 10;
      const last = await walkKillPoints(
        lane,
        (round) => ({ flow: 'publish', path, first: first(round), address: process.address, token, peer: ALICE }),
        async ({ killAt }) => {
          handedOut.push(...(await drainStock({ client, token: () => alice }, user)));
          const { keys, outbox } = readFile(path);
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
      const { keys, outbox } = readFile(path);
      expect([keys.sort(), outbox]).toStrictEqual([handedOut.sort(), []]);
      return last;
    };
    expect(await walkLanes(walk)).toBeGreaterThan(25);
  });
});
