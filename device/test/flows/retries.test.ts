import { status } from '@grpc/grpc-js';
import type {
  BatchFetchCoinsRequest,
  FetchCoinsRequest,
  ReconcileCoinsRequest,
  UploadCoinsRequest,
} from '../../../gen/aqm/coin/v1/coin_service';
import { DAY, type Fixture, keyId, mintedCoin, withFixture } from '../../conformance/harness';
import { type CoinServiceAccess, fetchOnDemand, publishCoins, reconcileCoins, topUp } from '../../index';
import { eachBackend } from '../each-backend';
import { type Failure, ScriptedCoinService } from './scripted-coin-service';

const backend = eachBackend();
const BOB = { contactId: 'bob', userId: keyId(77) };
const WISH = { ...BOB, coinCategory: 'GOLD' } as const;
const UNAVAILABLE: Failure = { code: status.UNAVAILABLE, reason: 'DATABASE_UNAVAILABLE' };

function withService(test: (fixture: Fixture, service: ScriptedCoinService) => Promise<void>): Promise<void> {
  return withFixture(backend.harness, async (fixture) => {
    const service = await ScriptedCoinService.start();
    service.serverTime = fixture.clock.now();
    try {
      await fixture.storage.inventory.setPriority('bob', 'BESTIE');
      await test(fixture, service);
    } finally {
      service.stop();
    }
  });
}

const when = ['before', 'after'] as const;
const failures = when.flatMap((moment) =>
  [status.UNAVAILABLE, status.DEADLINE_EXCEEDED].map((code) => [status[code], moment, { code }] as const),
);

backend.describe('a temporary failure of the coin service', () => {
  it.each(failures)('(%s, %s the call took effect) is hidden by topUp', (_, moment, failure) =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 9, 'GOLD', clock.in(DAY));
      for (let n = 0; n < 3; n += 1) service.failNext('batchFetchCoins', moment, failure);
      const { contacts } = await topUp(storage, service.retrying(), [BOB]);
      expect(contacts[0]?.error).toBeUndefined();
      expect(contacts[0]?.stored.map((coin) => coin.keyId)).toStrictEqual([0, 1, 2, 3, 4].map(keyId));
      expect(service.stock).toHaveLength(4);
      const asked = service.requests<BatchFetchCoinsRequest>('batchFetchCoins');
      expect(asked).toHaveLength(4);
      expect(new Set(asked.map((request) => JSON.stringify(request))).size).toBe(1);
    }),
  );

  it.each(failures)('(%s, %s the call took effect) is hidden by publishCoins', (_, moment, failure) =>
    withService(async ({ storage }, service) => {
      service.failNext('getInventoryCount', moment, failure);
      service.failNext('uploadCoins', moment, failure);
      const { results } = await publishCoins(storage, service.retrying(), [mintedCoin(1), mintedCoin(2)]);
      const outcome = moment === 'before' ? 'INSERTED' : 'ALREADY_PRESENT';
      expect(results.map((result) => result.outcome)).toStrictEqual([outcome, outcome]);
      const [first, second] = service.requests<UploadCoinsRequest>('uploadCoins');
      expect(second).toStrictEqual(first);
    }),
  );

  it.each(failures)('(%s, %s the call took effect) is hidden by fetchOnDemand', (_, moment, failure) =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 2, 'GOLD', clock.in(DAY));
      service.failNext('fetchCoins', moment, failure);
      expect((await fetchOnDemand(storage, service.retrying(), WISH))?.keyId).toBe(keyId(0));
      const [first, second] = service.requests<FetchCoinsRequest>('fetchCoins');
      expect(second).toStrictEqual(first);
      expect(service.stock).toHaveLength(1);
    }),
  );

  it('is hidden by reconcileCoins', () =>
    withService(async ({ storage }, service) => {
      await publishCoins(storage, service.access, [mintedCoin(1)]);
      service.failNext('getInventoryCount', 'before');
      for (const moment of when) service.failNext('reconcileCoins', moment);
      const { results } = await reconcileCoins(storage, service.retrying());
      expect(results).toStrictEqual([{ keyId: keyId(1), coinCategory: 'GOLD', outcome: 'IN_STOCK' }]);
      const asked = service.requests<ReconcileCoinsRequest>('reconcileCoins').slice(0, 3);
      expect(new Set(asked.map((request) => JSON.stringify(request))).size).toBe(1);
    }));

  it('in some items of a batch leads to a repeat of those, with their own ids, and of no others', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 5, 'GOLD', clock.in(DAY));
      service.add(10, 4, 'SILVER', clock.in(DAY));
      const later = { code: status.UNAVAILABLE, reason: 'OVERLOADED', message: 'Later.', retryDelay: undefined };
      service.itemErrors.set('GOLD', later);
      const sleep = async () => service.itemErrors.clear();
      const { contacts } = await topUp(storage, { ...service.retrying(), sleep }, [BOB]);
      expect(contacts[0]?.error).toBeUndefined();
      expect(contacts[0]?.stored).toHaveLength(9);
      const [all, again] = service.requests<BatchFetchCoinsRequest>('batchFetchCoins').map(({ requests }) => requests);
      expect([all?.length, again]).toStrictEqual([3, all?.filter(({ coinCategory }) => coinCategory === 1)]);
    }));

  it('in some items of a batch waits as long as the service requests for any of them', () =>
    withService(async ({ storage }, service) => {
      const later = { code: status.UNAVAILABLE, reason: 'FENCED', message: 'Later.' };
      service.itemErrors.set('GOLD', { ...later, retryDelay: { seconds: 2n, nanos: 0 } });
      service.itemErrors.set('SILVER', { ...later, retryDelay: { seconds: 7n, nanos: 250_000_000 } });
      service.itemErrors.set('BRONZE', { ...later, retryDelay: undefined });
      const waits: number[] = [];
      const sleep = async (ms: number) => {
        waits.push(ms);
        service.itemErrors.clear();
      };
      await topUp(storage, { ...service.retrying(), sleep }, [BOB]);
      expect(waits).toStrictEqual([7250]);
    }));

  it('leaves a request pending whose repeat was answered empty: the failed call may yet take coins for it', () =>
    withService(async ({ storage, clock }, service) => {
      service.failNext('batchFetchCoins', 'before');
      service.failNext('fetchCoins', 'before');
      const access = service.retrying();
      expect((await topUp(storage, access, [BOB])).contacts[0]?.error).toBeUndefined();
      expect(await fetchOnDemand(storage, access, WISH)).toBeNull();
      service.add(0, 9, 'GOLD', clock.in(DAY));
      await topUp(storage, access, [BOB]);
      await fetchOnDemand(storage, access, WISH);
      const batches = service.requests<BatchFetchCoinsRequest>('batchFetchCoins');
      const ids = batches.map(({ requests }) => requests.map(({ requestId }) => requestId).sort());
      expect(ids[2]).toStrictEqual(ids[0]);
      const fetches = service.requests<FetchCoinsRequest>('fetchCoins');
      expect(new Set(fetches.map(({ requestId }) => requestId)).size).toBe(1);
      // The number of attempts is no reservation: a request that was answered with coins is closed.
      await topUp(storage, access, [BOB]);
      expect(await storage.pendingRequests.resumeTopUps([BOB])).toHaveLength(2);
    }));
});

backend.describe('a coin service that stays unavailable', () => {
  /** Returns the milliseconds that a publish waits between attempts whose first call always fails. */
  async function waitsOf(
    { storage }: Fixture,
    service: ScriptedCoinService,
    failure: Failure,
    access: (waits: number[]) => CoinServiceAccess,
  ): Promise<number[]> {
    service.recover();
    for (let n = 0; n < 20; n += 1) service.failNext('getInventoryCount', 'before', failure);
    const waits: number[] = [];
    const failed = publishCoins(storage, access(waits), [mintedCoin(1)]);
    await expect(failed).rejects.toMatchObject({ code: failure.code });
    return waits;
  }

  it('is called 8 times, with waits that double up to 5 s and differ from device to device', () =>
    withService(async (fixture, service) => {
      const longest = [200, 400, 800, 1600, 3200, 5000, 5000];
      expect(await waitsOf(fixture, service, UNAVAILABLE, (waits) => service.retrying(waits))).toStrictEqual(longest);
      const shortest = await waitsOf(fixture, service, UNAVAILABLE, (waits) => ({
        ...service.retrying(waits),
        random: () => 0,
      }));
      expect(shortest).toStrictEqual(longest.map((ms) => ms / 2));
      expect(service.calls).toHaveLength(16);
    }));

  it('is given the time that it requests, unless that is longer than the caller would wait', () =>
    withService(async (fixture, service) => {
      const wait = (retryAfterMs: number) =>
        waitsOf(fixture, service, { ...UNAVAILABLE, retryAfterMs }, (waits) =>
          service.retrying(waits, { attempts: 4 }),
        );
      expect(await wait(700)).toStrictEqual([700, 700, 800]);
      expect(await wait(31_000)).toStrictEqual([]);
    }));

  it('is called as often, and for as long, as the caller configures', () =>
    withService(async (fixture, service) => {
      const wait = (retry: CoinServiceAccess['retry']) =>
        waitsOf(fixture, service, UNAVAILABLE, (waits) => service.retrying(waits, retry));
      expect(await wait({ attempts: 3, firstDelayMs: 10, longestDelayMs: 15 })).toStrictEqual([10, 15]);
      expect(await wait({ attempts: 1 })).toStrictEqual([]);
      expect(await wait({ firstDelayMs: 60_000, longestDelayMs: 60_000, withinMs: 59_999 })).toStrictEqual([]);
      for (const [field, retry] of [
        ['retry.attempts', { attempts: 0 }],
        ['retry.attempts', { attempts: 1.5 }],
        ['retry.firstDelayMs', { firstDelayMs: -1 }],
        ['retry.withinMs', { withinMs: Number.NaN }],
      ] as const) {
        const refused = publishCoins(fixture.storage, service.retrying([], retry), [mintedCoin(2)]);
        await expect(refused).rejects.toMatchObject({ name: 'InvalidArgumentError', field });
      }
    }));

  it.each([status.INTERNAL, status.UNAUTHENTICATED, status.FAILED_PRECONDITION, status.RESOURCE_EXHAUSTED])(
    'differs from one that refuses: code %p is not repeated',
    (code) =>
      withService(async (fixture, service) => {
        expect(await waitsOf(fixture, service, { code }, (waits) => service.retrying(waits))).toStrictEqual([]);
        expect(service.calls).toHaveLength(1);
      }),
  );

  it('finally gives the same error and report as without repeats, and everything stays for the next call', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 5, 'GOLD', clock.in(DAY));
      for (let n = 0; n < 8; n += 1) service.failNext('batchFetchCoins', 'before', UNAVAILABLE);
      const { contacts } = await topUp(storage, service.retrying(), [BOB]);
      expect(contacts[0]).toMatchObject({
        stored: [],
        error: { reason: 'DATABASE_UNAVAILABLE' },
        missing: { GOLD: 5 },
      });
      expect((await topUp(storage, service.retrying(), [BOB])).contacts[0]?.stored).toHaveLength(5);
    }));
});
