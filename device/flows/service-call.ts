import { CoinServiceError } from '../../coin-client/coin-service-error';
import { authorization, type UnaryMethod, unaryCall } from '../../coin-client/unary-call';
import type { CoinServiceClient } from '../../gen/aqm/coin/v1/coin_service';
import { InvalidArgumentError } from '../errors';
import { tracedCall } from '../telemetry/tracing';
import { checkRetry, Retries, type RetrySettings } from './retries';

/** Gives the flows access to the coin service. */
export interface CoinServiceAccess extends RetrySettings {
  /** The `client` of connectCoinService, which replaces a dead connection, or one of your own. */
  readonly client: CoinServiceClient;
  /**
   * Returns the token, without the word Bearer, spaces and line ends. Called before every attempt of a call, so that it
   * can renew the token.
   */
  readonly token: () => string | Promise<string>;
  /** The deadline of each attempt in milliseconds, 1 to 300000. Default 10000. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 10_000;
/** The longest deadline of an attempt. Pending requests rely on it, see MAX_ATTEMPT_MS. */
const MAX_TIMEOUT_MS = 300_000;

/** Checks the access settings. Every flow does so before it changes anything. Throws InvalidArgumentError. */
export function checkAccess(service: CoinServiceAccess): void {
  const { client, token, timeoutMs = DEFAULT_TIMEOUT_MS } = service ?? {};
  if (typeof client?.getChannel !== 'function') {
    throw new InvalidArgumentError('client', 'must be a CoinServiceClient, such as the `client` of connectCoinService');
  }
  if (typeof token !== 'function') throw new InvalidArgumentError('token', 'must be a function that returns the token');
  if (!(timeoutMs >= 1 && timeoutMs <= MAX_TIMEOUT_MS)) {
    throw new InvalidArgumentError('timeoutMs', `must be from 1 to ${MAX_TIMEOUT_MS}`);
  }
  checkRetry(service);
}

/** Controls the repetition of one call. */
export interface Repetition {
  /** The attempts of a flow that also repeats for other reasons. Default: new ones for this call. */
  readonly retries?: Retries;
  /** Runs before every attempt except the first. */
  readonly beforeRepeat?: () => Promise<void>;
}

/**
 * Makes one call with token and deadline. If it fails with UNAVAILABLE or DEADLINE_EXCEEDED, the same request, with the
 * same request_id, is sent again according to the RetryPolicy of `service`. Rejects with the CoinServiceError of the last
 * attempt, or with the error of `token`.
 */
export async function callService<Request, Response>(
  service: CoinServiceAccess,
  method: UnaryMethod<Request, Response>,
  request: Request,
  { retries = new Retries(service), beforeRepeat }: Repetition = {},
): Promise<Response> {
  for (let number = 1; ; number += 1) {
    try {
      return await attempt(service, method, request, number);
    } catch (error) {
      if (!(error instanceof CoinServiceError) || !(await retries.again(error))) throw error;
    }
    await beforeRepeat?.();
  }
}

async function attempt<Request, Response>(
  service: CoinServiceAccess,
  method: UnaryMethod<Request, Response>,
  request: Request,
  number: number,
): Promise<Response> {
  const { client, timeoutMs = DEFAULT_TIMEOUT_MS } = service;
  const metadata = await authorization(service.token);
  const call = { path: pathOf(method), metadata, target: targetOf(client), attempt: number };
  return tracedCall(call, () => unaryCall(client, method, request, metadata, timeoutMs));
}

/** Returns the path of a method, which grpc-js stores as a property of it. */
function pathOf(method: object): string {
  return 'path' in method && typeof method.path === 'string' ? method.path : '/_OTHER';
}

/** Returns the target of a client without the scheme of gRPC's name resolution. */
function targetOf(client: CoinServiceClient): string {
  return client
    .getChannel()
    .getTarget()
    .replace(/^[a-z]+:(\/\/\/?)?/, '');
}
