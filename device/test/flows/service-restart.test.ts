import { credentials } from '@grpc/grpc-js';
import { type CoinServiceProcess, startCoinService } from '../../../testkit/coin-service-process';
import { keyId, mintedCoin } from '../../conformance/harness';
import { openInChild } from '../../conformance/open-in-child';
import { type CoinServiceAccess, CoinServiceClient, publishCoins, topUp } from '../../index';
import { eachBackend } from '../each-backend';
import { stockOf } from '../kill-walk/kill-walk';

const backend = eachBackend();
const [ALICE, BOB] = [keyId(1001), keyId(1002)];

let process: CoinServiceProcess;
beforeAll(async () => {
  process = await startCoinService();
});
afterAll(() => process?.stop());

/** Kills the service under the first call of the method, and starts it again. */
function killedDuring(method: 'uploadCoins' | 'batchFetchCoins', client: CoinServiceClient) {
  let restarted: Promise<void> | undefined;
  let calls = 0;
  const watched = new Proxy(client, {
    get(_, name) {
      const member: unknown = Reflect.get(client, name);
      if (typeof member !== 'function') return member;
      return (...args: unknown[]) => {
        const call: unknown = member.apply(client, args);
        if (name === method) {
          calls += 1;
          restarted ??= process.kill().then(() => process.restart());
        }
        return call;
      };
    },
  });
  return { watched, calls: () => calls, restarted: async () => restarted };
}

async function withUser(
  user: string,
  test: (access: CoinServiceAccess & { readonly client: CoinServiceClient }) => Promise<void>,
): Promise<void> {
  const [token] = process.tokens(user) as [string];
  const options = { 'grpc.initial_reconnect_backoff_ms': 50, 'grpc.max_reconnect_backoff_ms': 200 };
  const client = new CoinServiceClient(process.address, credentials.createInsecure(), options);
  try {
    await test({ client, token: () => token });
  } finally {
    client.close();
  }
}

backend.describe('a coin service that is killed and started again in the middle of a call', () => {
  it('publishes every coin once, then hands each out once, and the user sees nothing of it', () =>
    withUser(BOB, (bob) =>
      withUser(ALICE, async (alice) => {
        const fixture = await backend.harness.create();
        await fixture.storage.close();
        const storage = await openInChild(fixture.childConfig);
        const before = (await stockOf(bob)).GOLD;
        const first = 10_000 + before * 100;
        const minted = Array.from({ length: 9 }, (_, n) => mintedCoin(first + n));
        const publishing = killedDuring('uploadCoins', bob.client);
        const { results } = await publishCoins(storage, { ...bob, client: publishing.watched }, minted);
        expect(results.map((result) => result.keyId)).toStrictEqual(minted.map((coin) => coin.keyId));
        for (const { outcome } of results) expect(['INSERTED', 'ALREADY_PRESENT']).toContain(outcome);
        await publishing.restarted();
        expect(publishing.calls()).toBeGreaterThan(1);
        expect((await stockOf(bob)).GOLD).toBe(before + 9);

        await storage.inventory.setPriority('bob', 'BESTIE');
        const fetching = killedDuring('batchFetchCoins', alice.client);
        const access = { ...alice, client: fetching.watched };
        const { contacts } = await topUp(storage, access, [{ contactId: 'bob', userId: BOB }]);
        await fetching.restarted();
        expect(fetching.calls()).toBeGreaterThan(1);
        expect(contacts[0]?.error).toBeUndefined();
        expect(contacts[0]?.stored).toHaveLength(5);
        // Exactly as many coins left the stock as arrived.
        expect((await stockOf(bob)).GOLD).toBe(before + 4);
        await storage.close();
        await fixture.destroy();
      }),
    ));
});
