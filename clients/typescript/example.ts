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
import { setTimeout } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { create, getOption } from '@bufbuild/protobuf';
import { durationMs } from '@bufbuild/protobuf/wkt';
import { type CallOptions, Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import {
  type Coin,
  CoinCategory,
  CoinCategorySchema,
  CoinSchema,
  coin_category_spec,
} from './gen/aqm/coin/v1/coin_pb.js';
import { CoinService, CoinUploadResult_Outcome as Outcome } from './gen/aqm/coin/v1/coin_service_pb.js';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from './gen/google/rpc/error_details_pb.js';

const ATTEMPTS = 8;
const DEADLINE_MS = 10_000;
const STORED = [Outcome.INSERTED, Outcome.ALREADY_PRESENT];

/** Returns the details in the google.rpc.Status of a failed call. */
function detailsOf(error: ConnectError) {
  const [info] = error.findDetails(ErrorInfoSchema);
  const [bad] = error.findDetails(BadRequestSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  return {
    reason: info?.reason ?? '',
    fields: bad?.fieldViolations.map(({ field }) => field) ?? [],
    retryDelayMs: retry?.retryDelay ? durationMs(retry.retryDelay) : 0,
  };
}

/**
 * True if the failure is transient. Connect does not report UNAVAILABLE if a connection breaks during a call: it reports
 * CANCELED, or has Node's error as its cause, which no answer of the service has.
 */
function isTransient({ code, cause }: ConnectError): boolean {
  return [Code.Unavailable, Code.DeadlineExceeded, Code.Canceled].includes(code) || cause !== undefined;
}

/** Makes the call, and repeats it with the same request_id while the service is temporarily unavailable. */
async function call<T>(token: string, method: (options: CallOptions) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await method({ headers: { authorization: `Bearer ${token}` }, timeoutMs: DEADLINE_MS });
    } catch (error) {
      if (!(error instanceof ConnectError) || !isTransient(error) || attempt === ATTEMPTS) throw error;
      const { reason, retryDelayMs } = detailsOf(error);
      // Never earlier than the service requests.
      const pauseMs = Math.max((0.5 + Math.random() / 2) * Math.min(100 * 2 ** attempt, 5000), retryDelayMs);
      console.error(`${Code[error.code]} ${reason}: retrying in ${Math.round(pauseMs)} ms`);
      await setTimeout(pauseMs);
    }
  }
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

const { COIN_SERVICE_ADDRESS, OWNER_ID = '', OWNER_TOKEN: owner = '', REQUESTER_TOKEN: requester = '' } = process.env;
const service = createClient(CoinService, createGrpcTransport({ baseUrl: `http://${COIN_SERVICE_ADDRESS}` }));

const coins = [...mint(CoinCategory.GOLD, 2), ...mint(CoinCategory.SILVER, 1), ...mint(CoinCategory.BRONZE, 3)];
const uploaded = await call(owner, (options) => service.uploadCoins({ coins }, options));

// The request_id makes the fetch repeatable: after a lost reply, the same call returns the same coins.
const request = {
  targetUserId: OWNER_ID,
  coinCategory: CoinCategory.GOLD,
  count: 3,
  requestId: randomUUID(),
  allowLowerCategories: true,
};
const fetched = await call(requester, (options) => service.fetchCoins(request, options));
const repeated = await call(requester, (options) => service.fetchCoins(request, options));

const { available } = await call(owner, (options) => service.getInventoryCount({}, options));

const refused = await call(requester, (options) => service.fetchCoins({ targetUserId: 'not-a-uuid' }, options)).then(
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
