import { inspect } from 'node:util';
import { status } from '@grpc/grpc-js';
import { CoinServiceError as ClientError } from '../../../coin-client';
import type { BatchFetchCoinsRequest } from '../../../gen/aqm/coin/v1/coin_service';
import { DAY, type Fixture, inventoryCoin, keyId, mintedCoin, withFixture } from '../../conformance/harness';
import {
  type CoinServiceAccess,
  type CoinServiceClient,
  CoinServiceError,
  type DeviceStorage,
  fetchOnDemand,
  publishCoins,
  reconcileCoins,
  topUp,
} from '../../index';
import { eachBackend } from '../each-backend';
import { ScriptedCoinService } from './scripted-coin-service';

const backend = eachBackend();
const BOB = { contactId: 'bob', userId: keyId(1000) };
const SECRET = 'eyJhbGciOiJFZERTQSJ9.c2VjcmV0.c2lnbmF0dXJl';
const BAD_TOKENS = [`${SECRET}\n`, `${SECRET}\r\n`, `é${SECRET}`, `Bearer ${SECRET}`, ''];

type Flow = (storage: DeviceStorage, access: CoinServiceAccess) => Promise<unknown>;
const FLOWS: [string, Flow][] = [
  ['publishCoins', (storage, access) => publishCoins(storage, access, [])],
  ['reconcileCoins', reconcileCoins],
  ['topUp', (storage, access) => topUp(storage, access, [BOB])],
  ['fetchOnDemand', (storage, access) => fetchOnDemand(storage, access, { ...BOB, coinCategory: 'GOLD' })],
];

function withService(test: (fixture: Fixture, service: ScriptedCoinService) => Promise<void>): Promise<void> {
  return withFixture(backend.harness, async (fixture) => {
    const service = await ScriptedCoinService.start();
    try {
      await fixture.storage.inventory.setPriority('bob', 'BESTIE');
      await test(fixture, service);
    } finally {
      service.stop();
    }
  });
}

const errorOf = (flow: Promise<unknown>): Promise<unknown> =>
  flow.then(
    () => new Error('The flow resolved.'),
    (error: unknown) => error,
  );

const batches = (service: ScriptedCoinService) => service.requests<BatchFetchCoinsRequest>('batchFetchCoins');

/** Returns access whose batches are answered with only so many results. */
function answering(results: number, access: CoinServiceAccess): CoinServiceAccess {
  const client: CoinServiceClient = Object.create(access.client);
  const batchFetchCoins: CoinServiceClient['batchFetchCoins'] = (
    request: BatchFetchCoinsRequest,
    ...rest: unknown[]
  ) => {
    const callback = rest.pop() as (error: unknown, response: unknown) => void;
    const cut: unknown = (error: unknown, response: { results: unknown[] } | undefined) =>
      callback(error, response && { results: response.results.slice(0, results) });
    return Reflect.apply(access.client.batchFetchCoins, access.client, [request, ...rest, cut]);
  };
  return { ...access, client: Object.assign(client, { batchFetchCoins }) };
}

backend.describe('a call that the service refuses', () => {
  it.each(FLOWS)('makes %s reject or report with the error of the typed client', (name, flow) =>
    withService(async ({ storage }, service) => {
      const failure = { code: status.RESOURCE_EXHAUSTED, reason: 'RATE_LIMITED', retryAfterMs: 31_500 };
      for (const method of ['getInventoryCount', 'batchFetchCoins', 'fetchCoins'] as const) {
        service.failNext(method, 'before', failure);
      }
      const error =
        name === 'topUp'
          ? (await topUp(storage, service.access, [BOB])).contacts[0]?.error
          : await errorOf(flow(storage, service.access));
      expect(error).toBeInstanceOf(CoinServiceError);
      expect(error).toMatchObject({
        ...failure,
        name: 'CoinServiceError',
        message: 'RATE_LIMITED',
        fieldViolations: [],
      });
      expect((error as Error).cause).toMatchObject({ code: failure.code, details: 'RATE_LIMITED' });
    }),
  );

  it('has one class, from wherever it is imported', () => {
    expect(CoinServiceError).toBe(ClientError);
  });

  it.each([
    { code: status.UNAUTHENTICATED, reason: 'TOKEN_EXPIRED' },
    { code: status.PERMISSION_DENIED, reason: 'SCOPE_MISSING' },
  ])('because of its token makes every flow reject: $reason', (failure) =>
    withService(async ({ storage, clock }, service) => {
      for (const [, flow] of FLOWS) {
        for (const method of ['getInventoryCount', 'batchFetchCoins', 'fetchCoins'] as const) {
          service.failNext(method, 'before', failure);
        }
        const error = await errorOf(flow(storage, service.access));
        expect(error).toBeInstanceOf(CoinServiceError);
        expect(error).toMatchObject(failure);
        service.recover();
      }
      // The next top-up fetches the coins for which the refused one had reserved room, with the same ids.
      service.add(0, 5, 'GOLD', clock.in(DAY));
      const { contacts } = await topUp(storage, service.access, [BOB]);
      expect(contacts[0]?.stored).toHaveLength(5);
      const ids = batches(service).map(({ requests }) => requests.map(({ requestId }) => requestId).sort());
      expect(ids[1]).toStrictEqual(ids[0]);
    }),
  );
});

backend.describe('a token that no service can have given', () => {
  it.each(FLOWS)('is refused by %s by name, unsent and unquoted', (_, flow) =>
    withService(async ({ storage }, service) => {
      for (const token of BAD_TOKENS) {
        const error = await errorOf(flow(storage, { ...service.access, retry: {}, token: () => token }));
        expect(error).toBeInstanceOf(CoinServiceError);
        expect(error).toMatchObject({ code: status.UNAUTHENTICATED, reason: 'TOKEN_INVALID' });
        expect(inspect(error, { depth: 9, showHidden: true })).not.toMatch(/eyJ|c2VjcmV0/);
      }
      expect(service.calls).toStrictEqual([]);
    }),
  );

  it('leaves no room reserved, and minted coins for the next call', () =>
    withService(async ({ storage, clock }, service) => {
      const access = { ...service.access, token: () => `${SECRET}\n` };
      await errorOf(topUp(storage, access, [BOB]));
      expect(await storage.pendingRequests.resumeTopUps([BOB])).toStrictEqual([]);
      for (let n = 0; n < 5; n += 1) {
        expect(await storage.inventory.storeKey(inventoryCoin(n, clock.in(DAY)))).toBe(true);
      }
      await errorOf(publishCoins(storage, access, [mintedCoin(1)]));
      expect((await publishCoins(storage, service.access, [])).results).toMatchObject([{ outcome: 'INSERTED' }]);
    }));

  it('between two attempts costs no coin: the next top-up gets what the first attempt took', () =>
    withService(async ({ storage, clock }, service) => {
      service.add(0, 9, 'GOLD', clock.in(DAY));
      service.failNext('batchFetchCoins', 'after');
      // One each for the check of its form, the check of its owner, the list of devices, and the first attempt.
      const tokens = ['a.b.c', 'a.b.c', 'a.b.c', 'a.b.c'];
      const access = { ...service.retrying(), token: () => tokens.shift() ?? `${SECRET}\n` };
      expect(await errorOf(topUp(storage, access, [BOB]))).toMatchObject({ reason: 'TOKEN_INVALID' });
      expect((await topUp(storage, service.access, [BOB])).contacts[0]?.stored).toHaveLength(5);
      expect(service.stock).toHaveLength(4);
    }));
});

backend.describe('an answer that does not fit the request', () => {
  it('with fewer results is an error of every contact without one, whose requests stay pending', () =>
    withService(async ({ storage, clock }, service) => {
      const contacts = [BOB, { contactId: 'carol', userId: keyId(1001) }, { contactId: 'dave', userId: keyId(1002) }];
      for (const { contactId } of contacts) await storage.inventory.setPriority(contactId, 'BESTIE');
      service.add(0, 15, 'GOLD', clock.in(DAY));
      // Three requests for each contact.
      const report = await topUp(storage, answering(4, service.access), contacts);
      const [bob, carol, dave] = report.contacts;
      expect(bob?.error).toBeUndefined();
      for (const affected of [carol, dave]) {
        expect(affected?.error).toBeInstanceOf(CoinServiceError);
        expect(affected?.error).toMatchObject({ code: status.INTERNAL, message: expect.stringContaining('4 of 9') });
      }
      const again = await topUp(storage, service.access, contacts);
      const stored = [report, again].flatMap((each) => each.contacts.flatMap((contact) => contact.stored));
      expect(stored).toHaveLength(15);
      expect(again.contacts.map(({ error }) => error)).toStrictEqual([undefined, undefined, undefined]);
    }));

  it('is a CoinServiceError of the other flows, too', () =>
    withService(async ({ storage }, service) => {
      const silent: CoinServiceClient = Object.create(service.access.client);
      const uploadCoins: unknown = (...args: unknown[]) =>
        (args.at(-1) as (error: null, answer: unknown) => void)(null, { results: [] });
      const access = { ...service.access, client: Object.assign(silent, { uploadCoins }) };
      expect(await errorOf(publishCoins(storage, access, [mintedCoin(1)]))).toMatchObject({
        name: 'CoinServiceError',
        reason: 'INTERNAL',
      });
      expect((await publishCoins(storage, service.access, [])).results).toMatchObject([{ outcome: 'INSERTED' }]);
    }));
});

backend.describe('access to the service', () => {
  it.each(FLOWS)('that is none is refused by %s, and names the field', (_, flow) =>
    withService(async ({ storage }, service) => {
      const { access } = service;
      for (const [field, bad] of [
        ['client', undefined],
        ['client', { ...access, client: undefined }],
        ['client', { ...access, client: { client: access.client } }],
        ['token', { ...access, token: SECRET }],
        ['timeoutMs', { ...access, timeoutMs: 2 ** 53 }],
      ] as const) {
        const error = await errorOf(flow(storage, bad as never));
        expect(error).toMatchObject({ name: 'InvalidArgumentError', field });
        expect(inspect(error)).not.toContain(SECRET);
      }
      expect(service.calls).toStrictEqual([]);
    }),
  );
});
