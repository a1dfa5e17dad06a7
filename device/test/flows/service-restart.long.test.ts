import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { credentials } from '@grpc/grpc-js';
import { CoinServiceClient } from '../../../gen/aqm/coin/v1/coin_service';
import { startService, type TestService } from '../../../testkit/service';
import { type ServiceProcess, spawnService } from '../../../testkit/service-process';
import { mintedCoin } from '../../conformance/harness';
import { openInChild } from '../../conformance/open-in-child';
import { type CoinServiceAccess, publishCoins, topUp } from '../../index';
import { eachBackend } from '../each-backend';
import { stockOf } from '../kill-walk/kill-walk';

const backend = eachBackend();
/** Short, so that a client finds the service soon after it is back. */
const RECONNECT = { 'grpc.initial_reconnect_backoff_ms': 50, 'grpc.max_reconnect_backoff_ms': 200 };

const LONGEST_RESTART_MS = 200_000;

/** Has the database and issues the tokens of the service that is killed, which runs in a process of its own. */
let service: TestService;
let killed: ServiceProcess;
beforeAll(async () => {
  service = await startService();
  killed = await spawnService(service);
});
afterAll(async () => {
  const { dataDir } = killed;
  await killed.stop();
  rmSync(dataDir, { recursive: true, force: true });
  await service.stop();
});

/** Kills the process of the service, and starts another one on the same address and folder. */
async function killAndRestart(): Promise<void> {
  const { address, child, dataDir } = killed;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
  killed = await spawnService(service, { AQM_LISTEN: address, AQM_DATA_DIR: dataDir });
}

/** Returns a client under whose first call of the method the service is killed and started again. */
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
          restarted ??= killAndRestart();
        }
        return call;
      };
    },
  });
  return {
    calls: () => calls,
    restarted: async () => restarted,
    /** Repeats a call when the service is back, however long that takes on a busy machine. */
    access: {
      client: watched,
      retry: { withinMs: LONGEST_RESTART_MS },
      sleep: async (ms: number) => {
        await restarted;
        await setTimeout(ms);
      },
    },
  };
}

type UserAccess = CoinServiceAccess & { readonly client: CoinServiceClient };

async function withUsers(test: (bob: UserAccess, alice: UserAccess, bobsId: string) => Promise<void>): Promise<void> {
  const [bob, alice] = [await service.user(), await service.user()];
  const clients = [bob, alice].map(() => {
    return new CoinServiceClient(killed.address, credentials.createInsecure(), RECONNECT);
  });
  const [bobsClient, alicesClient] = clients as [CoinServiceClient, CoinServiceClient];
  try {
    const access = (client: CoinServiceClient, token: string) => ({ client, token: () => token });
    await test(access(bobsClient, bob.token), access(alicesClient, alice.token), bob.id);
  } finally {
    for (const client of clients) client.close();
  }
}

backend.describe('a coin service that is killed and started again in the middle of a call', () => {
  it('publishes every coin once, then hands each out once, and the user notices nothing', () =>
    withUsers(async (bob, alice, bobsId) => {
      const [bobs, alices] = await Promise.all([backend.harness.create(), backend.harness.create()]);
      await Promise.all([bobs.storage.close(), alices.storage.close()]);
      const bobsStorage = await openInChild(bobs.childConfig);
      const storage = await openInChild(alices.childConfig);
      const minted = Array.from({ length: 9 }, (_, n) => mintedCoin(n));
      const publishing = killedDuring('uploadCoins', bob.client);
      const { results } = await publishCoins(bobsStorage, { ...bob, ...publishing.access }, minted);
      expect(results.map((result) => result.keyId)).toStrictEqual(minted.map((coin) => coin.keyId));
      for (const { outcome } of results) expect(['INSERTED', 'ALREADY_PRESENT']).toContain(outcome);
      await publishing.restarted();
      expect(publishing.calls()).toBeGreaterThan(1);
      expect((await stockOf(bob)).GOLD).toBe(9);

      await storage.inventory.setPriority('bob', 'BESTIE');
      const fetching = killedDuring('batchFetchCoins', alice.client);
      const { contacts } = await topUp(storage, { ...alice, ...fetching.access }, [
        { contactId: 'bob', userId: bobsId },
      ]);
      await fetching.restarted();
      expect(fetching.calls()).toBeGreaterThan(1);
      expect(contacts[0]?.error).toBeUndefined();
      expect(contacts[0]?.stored).toHaveLength(5);
      // Exactly as many coins left the stock as arrived.
      expect((await stockOf(bob)).GOLD).toBe(4);
      await Promise.all([bobsStorage.close(), storage.close()]);
      await Promise.all([bobs.destroy(), alices.destroy()]);
    }));
});
