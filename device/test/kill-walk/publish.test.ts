import { credentials } from '@grpc/grpc-js';
import { CoinServiceClient } from '../../../gen/aqm/coin/v1/coin_service';
import { startService, type TestService } from '../../../testkit/service';
import { type ChildConfig, keyId, vaultKey } from '../../conformance/harness';
import { openInChild } from '../../conformance/open-in-child';
import { WALKED_BACKENDS } from './device';
import type { Flow } from './job';
import { drainStock, walkKillPoints } from './kill-walk';

/** A user id for flows that do not call the coin service. */
const NO_PEER = keyId(9);

/** Longer than a full walk takes on a busy machine. */
const TOKEN_TTL_SECONDS = 4 * 3600;

const localFlow = (flow: Flow, device: (round: number) => ChildConfig) => (round: number) => ({
  flow,
  device: device(round),
  first: round,
  address: '127.0.0.1:1',
  token: '',
  peer: NO_PEER,
});

describe.each(WALKED_BACKENDS)('a device process killed between any two steps, on %s', (_, backend, expected) => {
  beforeAll(() => backend.start());
  afterAll(() => backend.stop());

  it('of creating its storage leaves one that opens', async () => {
    const device = (round: number) => backend.device(`open-${round}`);
    const { boundaries } = await walkKillPoints(localFlow('open', device), async ({ number }) => {
      const storage = await openInChild(device(number));
      expect(await storage.vault.storeKey(vaultKey(1))).toBe(true);
      await storage.close();
    });
    expect(boundaries).toBeGreaterThanOrEqual(expected.opening);
  });

  it('of selecting never uses a coin twice: it is still there, or gone for good', async () => {
    const device = backend.device('select');
    const stored: string[] = [];
    const returned: string[] = [];
    const job = localFlow('select', () => device);
    const { boundaries } = await walkKillPoints(job, async ({ resumed, done }) => {
      const { coins, used } = await backend.read(device);
      stored.push(...(resumed ?? []));
      returned.push(...(done ?? []));
      expect(stored.filter((id) => !coins.includes(id) && !used.includes(id))).toStrictEqual([]);
      expect(new Set(returned).size).toBe(returned.length);
      expect(coins.filter((id) => used.includes(id))).toStrictEqual([]);
      expect(returned.filter((id) => !used.includes(id))).toStrictEqual([]);
    });
    expect(boundaries).toBeGreaterThanOrEqual(expected.operation);
  });

  it('of burning leaves the key whole or burned for ever', async () => {
    const device = backend.device('burn');
    const job = localFlow('burn', () => device);
    const { boundaries } = await walkKillPoints(job, async ({ number, done }) => {
      const { vault, close } = await openInChild(device);
      const status = await vault.getStatus(keyId(number));
      const entry = await vault.fetchKey(keyId(number));
      if (done !== null) expect(status).toBe('BURNED');
      if (status === 'ACTIVE') expect(entry?.encryptedBlob).toStrictEqual(vaultKey(number).encryptedBlob);
      else expect([status, entry]).toStrictEqual(['BURNED', null]);
      expect(await vault.storeKey(vaultKey(number))).toBe(false);
      await close();
    });
    expect(boundaries).toBeGreaterThanOrEqual(expected.operation);
  });
});

const PUBLISHING = 'a device process killed between any two steps of publishing, against the real service, on %s';

describe.each(WALKED_BACKENDS)(PUBLISHING, (_, backend, expected) => {
  let service: TestService;
  let client: CoinServiceClient;
  beforeAll(async () => {
    await backend.start();
    service = await startService();
    client = new CoinServiceClient(service.address, credentials.createInsecure());
  });
  afterAll(async () => {
    client?.close();
    await service?.stop();
    await backend.stop();
  });

  it('publishes after restart exactly the coins whose private half it has', async () => {
    const device = backend.device('publish');
    const [bob, alice] = await Promise.all([1, 2].map(() => service.user({ ttlSeconds: TOKEN_TTL_SECONDS })));
    if (bob === undefined || alice === undefined) throw new Error('There are no users.');
    const handedOut: string[] = [];
    const first = (round: number) => 1000 + round * 10;
    const { boundaries } = await walkKillPoints(
      (round) => ({
        flow: 'publish',
        device,
        first: first(round),
        address: service.address,
        token: bob.token,
        peer: NO_PEER,
      }),
      async ({ number }) => {
        handedOut.push(...(await drainStock({ client, token: () => alice.token }, bob.id)));
        const { keys, outbox } = await backend.read(device);
        expect(new Set(handedOut).size).toBe(handedOut.length);
        // Whatever was handed out can be opened, also while its publisher is dead.
        expect(handedOut.filter((id) => !keys.includes(id))).toStrictEqual([]);
        // Coins that are not uploaded yet wait in the outbox: none is lost on the way.
        expect(keys.filter((id) => !handedOut.includes(id) && !outbox.includes(id))).toStrictEqual([]);
        // Either all private halves of a round are there, or none.
        const ofThisRound = [0, 1, 2].map((n) => keyId(first(number) + n)).filter((id) => keys.includes(id));
        expect([0, 3]).toContain(ofThisRound.length);
      },
    );
    // The last process left nothing open.
    const { keys, outbox } = await backend.read(device);
    expect([keys.sort(), outbox]).toStrictEqual([handedOut.sort(), []]);
    expect(boundaries).toBeGreaterThanOrEqual(expected.publish);
  });
});
