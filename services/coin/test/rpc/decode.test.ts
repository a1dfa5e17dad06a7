import { createFileRegistry, fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { Coin } from '../../../../gen/aqm/coin/v1/coin';
import { CoinAdminServiceService } from '../../../../gen/aqm/coin/v1/coin_admin_service';
import {
  CoinServiceService,
  DeviceCoinsRequest,
  FetchCoinsRequest,
  UploadCoinsRequest,
} from '../../../../gen/aqm/coin/v1/coin_service';
import { DESCRIPTOR_SET } from '../../../../gen/descriptor_set';
import { GOLD, mint } from '../../../../testkit/coins';
import { InvalidFieldError, UndecodableMessageError } from '../../errors';
import { MAX_REQUEST_BYTES, REQUEST_LISTS, withCheckedDecoding } from '../../rpc/decode';

const { uploadCoins, fetchCoins, batchFetchCoins, fetchDeviceCoins, reconcileCoins } =
  withCheckedDecoding(CoinServiceService);

afterEach(() => jest.restoreAllMocks());

/** Returns as many repetitions of the bytes as fit into the largest request. */
function full(...bytes: number[]): Buffer {
  return Buffer.alloc(MAX_REQUEST_BYTES - (MAX_REQUEST_BYTES % bytes.length), Buffer.from(bytes));
}

test.each([
  ['UploadCoins', uploadCoins, full(0x0a, 0), 'coins: must hold 1 to 100 elements; it holds more'],
  ['BatchFetchCoins', batchFetchCoins, full(0x0a, 0), 'requests: must hold 1 to 50 elements; it holds more'],
  ['FetchDeviceCoins', fetchDeviceCoins, full(0x0a, 0), 'requests: must hold 1 to 50 elements; it holds more'],
  ['ReconcileCoins', reconcileCoins, full(0x12, 0), 'key_ids: must hold 0 to 1000 elements; it holds more'],
])(
  'half a million empty elements of %s are counted and refused, and none is decoded',
  (_name, method, bytes, message) => {
    const decodes = [Coin, FetchCoinsRequest, DeviceCoinsRequest].map((message) => jest.spyOn(message, 'decode'));
    const refusal: unknown = method.requestDeserialize(bytes);
    expect(refusal).toBeInstanceOf(InvalidFieldError);
    expect((refusal as Error).message).toBe(message);
    for (const decode of decodes) expect(decode).not.toHaveBeenCalled();
  },
);

test('every list of a request has its bound, and no other field has one', () => {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, DESCRIPTOR_SET));
  const lists: Record<string, unknown> = {};
  for (const { path } of [...Object.values(CoinServiceService), ...Object.values(CoinAdminServiceService)]) {
    const [, serviceName = '', name = ''] = path.split('/');
    const method = registry.getService(serviceName)?.methods.find((each) => each.name === name);
    for (const field of method?.input.fields ?? []) {
      if (field.fieldKind === 'list') lists[name] = { field: field.number, name: field.name };
    }
  }
  expect(Object.keys(lists)).toHaveLength(4);
  const declared = Object.entries(REQUEST_LISTS).map(([name, list]) => [name, { field: list.field, name: list.name }]);
  expect(Object.fromEntries(declared)).toEqual(lists);
});

/** One coin that consists of these bytes. */
function uploadOf(coin: Buffer): Buffer {
  const length: number[] = [];
  let rest = coin.length;
  for (; rest >= 128; rest >>>= 7) length.push((rest & 127) | 128);
  return Buffer.concat([Buffer.from([0x0a, ...length, rest]), coin]);
}

test.each([
  ['a field of a coin, half a million times', uploadCoins, uploadOf(full(0x2a, 0).subarray(8))],
  ['a field of a request, half a million times', fetchCoins, full(0x22, 0)],
  ['an unknown field, half a million times', fetchCoins, full(0x7a, 0)],
  ['unknown groups, a quarter of a million times', fetchCoins, full(0x7b, 0x7c)],
  ['unknown numbers between the coins of an upload', uploadCoins, full(0x78, 0)],
])('%s, is refused without decoding all of it', (_what, method, bytes) => {
  const decode = jest.spyOn(FetchCoinsRequest, 'decode');
  const refusal: unknown = method.requestDeserialize(bytes);
  expect(refusal).toBeInstanceOf(UndecodableMessageError);
  expect((refusal as Error).cause).toMatchObject({ message: 'more than 20000 tags and lengths' });
  expect(decode.mock.results.filter(({ type }) => type === 'return')).toHaveLength(0);
});

test('the largest upload is decoded', () => {
  const request = UploadCoinsRequest.create({});
  request.coins = mint(100, GOLD).map((coin) => ({ ...coin, expireTime: new Date(1_900_000_000_123) }));
  const bytes = Buffer.from(UploadCoinsRequest.encode(request).finish());
  expect(bytes.length).toBeGreaterThan(300_000);
  expect(uploadCoins.requestDeserialize(bytes)).toEqual(request);
});
