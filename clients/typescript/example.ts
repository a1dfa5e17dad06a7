/**
 * Uploads coins as one user, fetches them as another, and counts what is left. In this folder:
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
import { CoinService, CoinUploadResult_Outcome as Outcome } from './gen/aqm/coin/v1/coin_service_pb.js';
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
function mint(coinCategory: CoinCategory, count: number): Coin[] {
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

const coins = [...mint(CoinCategory.GOLD, 2), ...mint(CoinCategory.SILVER, 1), ...mint(CoinCategory.BRONZE, 3)];
const uploaded = await service.uploadCoins({ coins }, owner);

// The request_id makes the fetch repeatable: after a lost reply, the same call returns the same coins.
const request = {
  targetUserId: OWNER_ID,
  coinCategory: CoinCategory.GOLD,
  count: 3,
  requestId: randomUUID(),
  allowLowerCategories: true,
};
const fetched = await service.fetchCoins(request, requester);
const repeated = await service.fetchCoins(request, requester);

const { available } = await service.getInventoryCount({}, owner);

const refused = await service.fetchCoins({ targetUserId: 'not-a-uuid' }, requester).then(
  () => null,
  (error: ConnectError) => ({ code: error.code, reason: detailsOf(error).reason, fields: detailsOf(error).fields }),
);

process.stdout.write(
  JSON.stringify({
    // ALREADY_PRESENT is a success as well: a repeated upload returns it if the first reply was lost.
    uploaded: uploaded.results.filter(({ outcome }) => STORED.includes(outcome)).length,
    fetched: fetched.coins.map(({ coinCategory }) => CoinCategorySchema.value[coinCategory].name),
    fetched_as_uploaded: isDeepStrictEqual(keyBytes(fetched.coins), keyBytes(coins.slice(0, 3))),
    repeat_is_the_same: isDeepStrictEqual(keyBytes(repeated.coins), keyBytes(fetched.coins)),
    left: { gold: available?.gold, silver: available?.silver, bronze: available?.bronze },
    refused,
  }),
);
