import fc from 'fast-check';
import type { Coin } from '../../../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES } from '../../../../gen/aqm/coin/v1/coin_categories';
import {
  BatchFetchCoinsResponse,
  FetchCoinsResponse,
  FetchDeviceCoinsResponse,
} from '../../../../gen/aqm/coin/v1/coin_service';
import { UNNAMED_DEVICE } from '../../coin';
import {
  encodeBatchFetchCoinsResponse,
  encodeFetchCoinsResponse,
  encodeFetchDeviceCoinsResponse,
} from '../../rpc/encode';

const bytes = fc.uint8Array({ maxLength: 3000 }).map((array) => Buffer.from(array));
/**
 * Contains every field, so that a new field fails to compile here until the encoder supports it.
 */
const coin: fc.Arbitrary<Required<Coin>> = fc.record({
  keyId: fc.oneof(fc.uuid(), fc.string({ unit: 'binary' })),
  coinCategory: fc.constantFrom(0, ...COIN_CATEGORIES.map(({ category }) => category)),
  publicKey: bytes,
  signature: bytes,
  expireTime: fc.option(fc.date({ min: new Date(0), max: new Date('9999-12-31'), noInvalidDate: true }), {
    nil: undefined,
  }),
  deviceId: fc.oneof(fc.constant(''), fc.uuid(), fc.string({ unit: 'binary' })),
});
const coins = fc.array(coin, { maxLength: 20 });
const fewCoins = fc.array(coin, { maxLength: 4 });
const retryDelay = fc.record({ seconds: fc.bigInt({ min: 0n, max: 10n ** 9n }), nanos: fc.nat(999_999_999) });
const error = fc.record({
  code: fc.integer({ min: 0 }),
  reason: fc.string(),
  message: fc.string(),
  retryDelay: fc.option(retryDelay, { nil: undefined }),
});

test('a FetchCoins response has the same bytes as from the generated code', () => {
  fc.assert(
    fc.property(fc.record({ coins }), (response) => {
      const expected = FetchCoinsResponse.encode(response).finish();
      expect(encodeFetchCoinsResponse(response).equals(expected)).toBe(true);
    }),
  );
});

test('the device_id of a coin of the unnamed device is empty', () => {
  fc.assert(
    fc.property(coin, (one) => {
      const expected = FetchCoinsResponse.encode({ coins: [{ ...one, deviceId: '' }] }).finish();
      expect(encodeFetchCoinsResponse({ coins: [{ ...one, deviceId: UNNAMED_DEVICE }] }).equals(expected)).toBe(true);
    }),
  );
});

test('a FetchDeviceCoins response has the same bytes as from the generated code', () => {
  const devices = fc.array(fc.record({ deviceId: fc.oneof(fc.constant(''), fc.uuid()), coins: fewCoins }), {
    maxLength: 5,
  });
  const results = fc.array(fc.record({ devices, error: fc.option(error, { nil: undefined }) }), { maxLength: 5 });
  fc.assert(
    fc.property(fc.record({ results }), (response) => {
      const expected = FetchDeviceCoinsResponse.encode(response).finish();
      expect(encodeFetchDeviceCoinsResponse(response).equals(expected)).toBe(true);
    }),
  );
});

test('a BatchFetchCoins response has the same bytes as from the generated code', () => {
  const results = fc.array(fc.record({ coins, error: fc.option(error, { nil: undefined }) }), { maxLength: 10 });
  fc.assert(
    fc.property(fc.record({ results }), (response) => {
      const expected = BatchFetchCoinsResponse.encode(response).finish();
      expect(encodeBatchFetchCoinsResponse(response).equals(expected)).toBe(true);
    }),
  );
});
