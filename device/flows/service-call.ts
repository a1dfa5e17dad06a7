import { type CallOptions, type ClientUnaryCall, Metadata, type ServiceError } from '@grpc/grpc-js';
import type { CoinServiceClient } from '../../gen/aqm/coin/v1/coin_service';
import { InvalidArgumentError } from '../errors';
import { isServiceError } from '../service-error';
import { tracedCall } from '../telemetry/tracing';
import { checkRetry, failureOf, Retries, type RetrySettings } from './retries';

/** Gives the flows access to the coin service. */
export interface CoinServiceAccess extends RetrySettings {
  readonly client: CoinServiceClient;
  /**
   * Returns the token, without the word Bearer. Called before every attempt of a call, so that it can renew the token.
   */
  readonly token: () => string | Promise<string>;
  /** The deadline of each attempt in milliseconds, 1 to 300000. Default 10000. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 10_000;
/** The longest deadline of an attempt. Pending requests rely on it, see MAX_ATTEMPT_MS. */
const MAX_TIMEOUT_MS = 300_000;

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

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
 * same request_id, is sent again according to the RetryPolicy of `service`. Rejects with the unchanged ServiceError of
 * the last attempt, or with the error of `token`.
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
      if (!isServiceError(error) || !(await retries.again(failureOf(error)))) throw error;
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
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${await service.token()}`);
  // gRPC deadlines are times of the machine's own clock, which may differ from the injected one.
  const deadline = Date.now() + (service.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const send = () =>
    new Promise<Response>((resolve, reject) => {
      method.call(service.client, request, metadata, { deadline }, (error, response) => {
        if (error) reject(error);
        else resolve(response);
      });
    });
  return tracedCall({ path: pathOf(method), metadata, target: targetOf(service.client), attempt: number }, send);
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
