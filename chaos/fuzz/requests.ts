import { randomBytes, randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { type Coin, CoinCategory } from '../../gen/aqm/coin/v1/coin';
import {
  DeleteUserRequest,
  HardDeleteFetchedRequest,
  PurgeStaleRequest,
} from '../../gen/aqm/coin/v1/coin_admin_service';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import {
  BatchFetchCoinsRequest,
  DeviceCoinsRequest,
  FetchCoinsRequest,
  FetchDeviceCoinsRequest,
  ListDevicesRequest,
  ReconcileCoinsRequest,
  RemoveDeviceRequest,
  UploadCoinsRequest,
} from '../../gen/aqm/coin/v1/coin_service';
import { HealthCheckRequest } from '../../gen/grpc/health/v1/health';
import { ServerReflectionRequest } from '../../gen/grpc/reflection/v1/reflection';

/** An encoded request to a method, without its gRPC frame. */
export interface Request {
  readonly path: string;
  readonly bytes: Buffer;
}

const COINS = '/aqm.coin.v1.CoinService';
const ADMIN = '/aqm.coin.v1.CoinAdminService';
const REFLECTION = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
const BRONZE = CoinCategory.COIN_CATEGORY_BRONZE;

/** Returns a valid request of every kind. */
export function validRequests(user: string): Request[] {
  const bronze = () => coin(BRONZE, 32, 64);
  const fetch = () => ({ ...FetchCoinsRequest.create(), targetUserId: user, coinCategory: BRONZE, count: 1 });
  const deviceFetch = () => ({ ...DeviceCoinsRequest.create(), targetUserId: user, coinCategory: BRONZE, count: 1 });
  const upload = (...coins: Coin[]) =>
    encode(`${COINS}/UploadCoins`, UploadCoinsRequest, { coins, databaseEpoch: '', deviceId: '' });
  return [
    upload(bronze()),
    upload(bronze(), coin(CoinCategory.COIN_CATEGORY_SILVER, 1184, 64)),
    upload({ ...bronze(), expireTime: new Date(Date.now() + 5 * 86_400_000) }),
    encode(`${COINS}/FetchCoins`, FetchCoinsRequest, fetch()),
    encode(`${COINS}/FetchCoins`, FetchCoinsRequest, {
      ...fetch(),
      requestId: randomUUID(),
      allowLowerCategories: true,
    }),
    encode(`${COINS}/BatchFetchCoins`, BatchFetchCoinsRequest, {
      requests: [fetch(), { ...fetch(), requestId: randomUUID() }, { ...fetch(), targetUserId: randomUUID() }],
    }),
    encode(`${COINS}/FetchDeviceCoins`, FetchDeviceCoinsRequest, {
      requests: [
        { ...deviceFetch(), requestId: randomUUID() },
        { ...deviceFetch(), count: 0, deviceIds: ['', randomUUID()] },
        { ...deviceFetch(), targetUserId: randomUUID() },
      ],
    }),
    { path: `${COINS}/GetInventoryCount`, bytes: Buffer.alloc(0) },
    encode(`${COINS}/ListDevices`, ListDevicesRequest, {}),
    encode(`${COINS}/RemoveDevice`, RemoveDeviceRequest, { deviceId: randomUUID() }),
    encode(`${COINS}/ReconcileCoins`, ReconcileCoinsRequest, {
      coinCategory: BRONZE,
      keyIds: [randomUUID(), randomUUID()],
      complete: true,
      listedAt: new Date(Date.now() - 86_400_000),
      databaseEpoch: '',
      deviceId: '',
    }),
    encode(`${ADMIN}/PurgeStale`, PurgeStaleRequest, { maxAgeDays: 30 }),
    encode(`${ADMIN}/HardDeleteFetched`, HardDeleteFetchedRequest, { graceHours: 1 }),
    encode('/grpc.health.v1.Health/Check', HealthCheckRequest, { service: 'aqm.coin.v1.CoinService' }),
    encode('/grpc.health.v1.Health/Watch', HealthCheckRequest, { service: '' }),
    ...(
      [
        { $case: 'listServices', value: '' },
        { $case: 'fileByFilename', value: 'aqm/coin/v1/coin_service.proto' },
        { $case: 'fileContainingSymbol', value: 'aqm.coin.v1.CoinService.FetchCoins' },
        {
          $case: 'fileContainingExtension',
          value: { containingType: 'google.protobuf.EnumOptions', extensionNumber: 1 },
        },
        { $case: 'allExtensionNumbersOfType', value: 'google.protobuf.EnumValueOptions' },
      ] as const
    ).map((messageRequest) => encode(REFLECTION, ServerReflectionRequest, { host: '', messageRequest })),
    encode(`${ADMIN}/DeleteUser`, DeleteUserRequest, { userId: randomUUID() }),
  ];
}

/** Generates well-formed messages with arbitrary field values, as a careless or malicious client would send them. */
export function anyRequest(user: string): fc.Arbitrary<Request> {
  const text = fc.oneof(
    fc.constantFrom('', user, user.toUpperCase(), `${user} `, `{${user}}`, '\0', 'ü'.repeat(36), '0'.repeat(70_000)),
    fc.uuid(),
    fc.string({ unit: 'binary', maxLength: 40 }),
  );
  const device = fc.oneof(fc.constant(''), text);
  const int32 = fc.oneof(
    fc.constantFrom(-(2 ** 31), -1, 0, 1, 2, 20, 21, 3650, 3651, 8760, 8761, 2 ** 31 - 1),
    fc.integer(),
  );
  const category = fc.oneof(
    fc.constantFrom(0, 1, 2, 3, 4, -1, 2 ** 31 - 1),
    fc.constant(BRONZE),
  ) as fc.Arbitrary<CoinCategory>;
  const sizes = COIN_CATEGORIES.flatMap(({ publicKeySize, signatureSize }) => [publicKeySize, signatureSize]);
  const bytes = fc
    .oneof(fc.constantFrom(0, 1, ...sizes, ...sizes.map((size) => size + 1)), fc.nat(5_000))
    .map((size) => randomBytes(size));
  const days = (count: number) => new Date(Date.now() + count * 86_400_000);
  const time = fc.oneof(
    fc.constant(undefined),
    fc.constantFrom(-10_000, 0, 1, 2, 22, 23, 24, 100_000).map(days),
    fc.date({ min: new Date(-8.64e15), max: new Date(8.64e15), noInvalidDate: true }),
  );
  const anyCoin: fc.Arbitrary<Coin> = fc.oneof(
    fc.record({
      keyId: text,
      coinCategory: category,
      publicKey: bytes,
      signature: bytes,
      expireTime: time,
      deviceId: device,
    }),
    fc.record({ keyId: fc.uuid(), expireTime: time }).map((fields) => ({ ...coin(BRONZE, 32, 64), ...fields })),
  );
  const anyFetch = fc.record({
    targetUserId: text,
    coinCategory: category,
    count: int32,
    requestId: text,
    allowLowerCategories: fc.boolean(),
    deviceId: device,
  });
  const anyDeviceFetch = fc.record({
    targetUserId: text,
    coinCategory: category,
    count: int32,
    deviceIds: fc.array(device, { maxLength: 52 }),
    allowLowerCategories: fc.boolean(),
    requestId: text,
  });
  return fc.oneof(
    fc
      .record({ coins: fc.array(anyCoin, { maxLength: 103 }), databaseEpoch: text, deviceId: device })
      .map((message) => encode(`${COINS}/UploadCoins`, UploadCoinsRequest, message)),
    anyFetch.map((message) => encode(`${COINS}/FetchCoins`, FetchCoinsRequest, message)),
    fc
      .record({ requests: fc.array(anyFetch, { maxLength: 52 }) })
      .map((message) => encode(`${COINS}/BatchFetchCoins`, BatchFetchCoinsRequest, message)),
    fc
      .record({ requests: fc.array(anyDeviceFetch, { maxLength: 52 }) })
      .map((message) => encode(`${COINS}/FetchDeviceCoins`, FetchDeviceCoinsRequest, message)),
    text.map((deviceId) => encode(`${COINS}/RemoveDevice`, RemoveDeviceRequest, { deviceId })),
    fc
      .record({
        coinCategory: category,
        keyIds: fc.array(text, { maxLength: 8 }),
        complete: fc.boolean(),
        listedAt: time,
        databaseEpoch: text,
        deviceId: device,
      })
      .map((message) => encode(`${COINS}/ReconcileCoins`, ReconcileCoinsRequest, message)),
    int32.map((maxAgeDays) => encode(`${ADMIN}/PurgeStale`, PurgeStaleRequest, { maxAgeDays })),
    int32.map((graceHours) => encode(`${ADMIN}/HardDeleteFetched`, HardDeleteFetchedRequest, { graceHours })),
    // Not the user of the fuzzing, whose calls would be refused from then on.
    text
      .filter((userId) => userId.toLowerCase() !== user)
      .map((userId) => encode(`${ADMIN}/DeleteUser`, DeleteUserRequest, { userId })),
  );
}

function coin(coinCategory: CoinCategory, publicKeySize: number, signatureSize: number): Coin {
  const [publicKey, signature] = [randomBytes(publicKeySize), randomBytes(signatureSize)];
  return { keyId: randomUUID(), coinCategory, publicKey, signature, expireTime: undefined, deviceId: '' };
}

interface Codec<Message> {
  encode(message: Message): { finish(): Uint8Array };
}

function encode<Message>(path: string, codec: Codec<Message>, message: Message): Request {
  return { path, bytes: Buffer.from(codec.encode(message).finish()) };
}
