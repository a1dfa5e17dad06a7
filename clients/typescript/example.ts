/**
 * Uploads coins for two devices of one user, and fetches them as another user, one fetch for all devices. In this folder:
 *
 *     npm ci && npm run build
 *     export COIN_SERVICE_ADDRESS=127.0.0.1:50051 OWNER_ID=<uuid>
 *     export OWNER_TOKEN=<JWT of that user> REQUESTER_TOKEN=<JWT of another user>
 *     npm --silent start
 *
 * Prints one JSON object. The keys are random bytes of the correct sizes; creating real ones is the task of the
 * minting module.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { create, getOption } from '@bufbuild/protobuf';
import { type CallOptions, Code, ConnectError, createClient, type Interceptor } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import {
  type Coin,
  CoinCategory,
  CoinCategorySchema,
  CoinSchema,
  coin_category_spec,
} from './gen/aqm/coin/v1/coin_pb.js';
import {
  CoinService,
  type DeviceCoinsResult,
  CoinUploadResult_Outcome as Outcome,
} from './gen/aqm/coin/v1/coin_service_pb.js';
import { BadRequestSchema, ErrorInfoSchema } from './gen/google/rpc/error_details_pb.js';

/** The part of the contract's service config about the coin service. */
const {
  methodConfig: [{ timeout, retryPolicy: policy }],
} = JSON.parse(readFileSync('../../proto/service_config.json', 'utf8'));
/** Returns the milliseconds of a duration such as "0.2s". */
const ms = (duration: string) => Number.parseFloat(duration) * 1000;

const STORED = [Outcome.INSERTED, Outcome.ALREADY_PRESENT];

/** Returns the details in the google.rpc.Status of a failed call. */
function detailsOf(error: ConnectError) {
  const [info] = error.findDetails(ErrorInfoSchema);
  const [bad] = error.findDetails(BadRequestSchema);
  return { reason: info?.reason ?? '', fields: bad?.fieldViolations.map(({ field }) => field) ?? [] };
}

/** True if the service config lets a call with this failure be repeated. */
function isRetryable({ code, cause }: ConnectError): boolean {
  const name = (Code[code] ?? '').replace(/\B[A-Z]/g, '_$&').toUpperCase();
  // Connect does not report UNAVAILABLE if a connection breaks during a call: it reports CANCELED, or has Node's error as its
  // cause, which no answer of the service has.
  return policy.retryableStatusCodes.includes(name) || code === Code.Canceled || cause !== undefined;
}

/** Repeats calls as gRPC does it with the service config of the contract, which Connect does not read. */
const retries: Interceptor = (next) => async (request) => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await next(request);
    } catch (error) {
      const failure = ConnectError.from(error);
      const pushback = failure.metadata.get('grpc-retry-pushback-ms');
      const isRefused = pushback !== null && !(Number(pushback) >= 0);
      if (attempt === policy.maxAttempts || isRefused || request.signal.aborted || !isRetryable(failure)) throw error;
      const backoff = Math.min(
        ms(policy.initialBackoff) * policy.backoffMultiplier ** (attempt - 1),
        ms(policy.maxBackoff),
      );
      // As long as the service asks for, until the deadline of the call.
      await setTimeout(pushback === null ? backoff * (0.8 + 0.4 * Math.random()) : Number(pushback));
    }
  }
};

/** Returns the options of every call by the user with this token. */
function as(token: string): CallOptions {
  return { headers: { authorization: `Bearer ${token}` } };
}

/** Creates coins of a category. The sizes come from the options in coin.proto. */
function mint(coinCategory: CoinCategory, count = 1): Coin[] {
  const spec = getOption(CoinCategorySchema.value[coinCategory], coin_category_spec);
  return Array.from({ length: count }, () =>
    create(CoinSchema, {
      keyId: randomUUID(),
      coinCategory,
      publicKey: randomBytes(spec.publicKeySize),
      signature: randomBytes(spec.signatureSize),
    }),
  );
}

/** Returns the coins whose private halves are in the vault of this device. */
function coinsOf(device: string, result: DeviceCoinsResult | undefined): Coin[] {
  return result?.devices.flatMap(({ coins }) => coins).filter(({ deviceId }) => deviceId === device) ?? [];
}

const names = (coins: Coin[]) => coins.map(({ coinCategory }) => CoinCategorySchema.value[coinCategory].name);
const keyBytes = (coins: Coin[]) =>
  coins.map(({ keyId, publicKey, signature }) => [keyId, Buffer.from(publicKey), Buffer.from(signature)]);

const { COIN_SERVICE_ADDRESS, OWNER_ID = '', OWNER_TOKEN = '', REQUESTER_TOKEN = '' } = process.env;
const transport = createGrpcTransport({
  baseUrl: `http://${COIN_SERVICE_ADDRESS}`,
  defaultTimeoutMs: ms(timeout),
  interceptors: [retries],
});
const service = createClient(CoinService, transport);
const [owner, requester] = [as(OWNER_TOKEN), as(REQUESTER_TOKEN)];

// Each installation of the messenger is a device. It chooses its id once and keeps it.
const [phone, laptop] = [randomUUID(), randomUUID()];
const ofPhone = [...mint(CoinCategory.GOLD), ...mint(CoinCategory.SILVER), ...mint(CoinCategory.BRONZE)];
const ofLaptop = [...mint(CoinCategory.GOLD), ...mint(CoinCategory.BRONZE, 2)];
const uploaded = [
  ...(await service.uploadCoins({ coins: ofPhone, deviceId: phone }, owner)).results,
  ...(await service.uploadCoins({ coins: ofLaptop, deviceId: laptop }, owner)).results,
];

// Two coins of each device of the user. The request_id makes an item repeatable: after a lost reply, the same item returns
// the same coins. A malformed item fails alone.
const item = {
  targetUserId: OWNER_ID,
  coinCategory: CoinCategory.GOLD,
  count: 2,
  requestId: randomUUID(),
  allowLowerCategories: true,
};
const request = { requests: [item, { targetUserId: 'not-a-uuid' }] };
const [fetched, failed] = (await service.fetchDeviceCoins(request, requester)).results;
const [repeated] = (await service.fetchDeviceCoins(request, requester)).results;

const { available } = await service.getInventoryCount({ deviceId: phone }, owner);

// The laptop is lost: its last coin is retired, and from now on no coin of it is handed out.
const { retiredCount } = await service.removeDevice({ deviceId: laptop }, owner);
const { devices } = await service.listDevices({}, owner);

const refused = await service.fetchCoins({ targetUserId: 'not-a-uuid' }, requester).then(
  () => null,
  (error: ConnectError) => ({ code: error.code, reason: detailsOf(error).reason, fields: detailsOf(error).fields }),
);

const [fetchedOfPhone, fetchedOfLaptop] = [coinsOf(phone, fetched), coinsOf(laptop, fetched)];
const expected = [...ofPhone.slice(0, 2), ...ofLaptop.slice(0, 2)];
process.stdout.write(
  JSON.stringify({
    // ALREADY_PRESENT is a success as well: a repeated upload returns it if the first reply was lost.
    uploaded: uploaded.filter(({ outcome }) => STORED.includes(outcome)).length,
    fetched: { phone: names(fetchedOfPhone), laptop: names(fetchedOfLaptop) },
    fetched_as_uploaded: isDeepStrictEqual(keyBytes([...fetchedOfPhone, ...fetchedOfLaptop]), keyBytes(expected)),
    repeat_is_the_same: isDeepStrictEqual(repeated, fetched),
    failed_item: { code: failed?.error?.code, reason: failed?.error?.reason },
    left: { gold: available?.gold, silver: available?.silver, bronze: available?.bronze },
    retired: retiredCount,
    devices_left: devices.length,
    refused,
  }),
);
