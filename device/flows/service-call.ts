import { type CallOptions, type ClientUnaryCall, Metadata, type ServiceError } from '@grpc/grpc-js';
import type { CoinServiceClient } from '../../gen/aqm/coin/v1/coin_service';
import { InvalidArgumentError } from '../errors';
import { tracedCall } from '../telemetry/tracing';
import { checkRetry, failureOf, Retries, type RetrySettings } from './retries';
import { isServiceError } from './service-error';

/** How the flows reach the coin service. */
export interface CoinServiceAccess extends RetrySettings {
  readonly client: CoinServiceClient;
  /** Asked before every attempt of a call, so that it can renew the token. Without the word Bearer. */
  readonly token: () => string | Promise<string>;
  /** Deadline of each attempt in milliseconds, 1 to 300000. Default 10000. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 10_000;
/** Open requests rely on no attempt taking longer than this; see LONGEST_ASK_MS of the backends. */
const LONGEST_TIMEOUT_MS = 300_000;

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/** Flows check this before they change anything. */
export function checkAccess(service: CoinServiceAccess): void {
  const { timeoutMs = DEFAULT_TIMEOUT_MS } = service;
  if (!(timeoutMs >= 1 && timeoutMs <= LONGEST_TIMEOUT_MS)) {
    throw new InvalidArgumentError('timeoutMs', `must be from 1 to ${LONGEST_TIMEOUT_MS}`);
  }
  checkRetry(service);
}

export interface Repeating {
  /** Of a flow that repeats for reasons of its own, too. Default: those of this call. */
  readonly retries?: Retries;
  /** Runs before every attempt but the first. */
  readonly beforeRepeat?: () => Promise<void>;
}

/**
 * One call with token and deadline. While it ends with UNAVAILABLE or DEADLINE_EXCEEDED the same request, and so the
 * same request_id, is sent again as the service's RetryPolicy says. Rejects with the ServiceError of the last attempt,
 * or with what `token` rejected with, as it is.
 */
export async function callService<Request, Response>(
  service: CoinServiceAccess,
  method: UnaryMethod<Request, Response>,
  request: Request,
  { retries = new Retries(service), beforeRepeat }: Repeating = {},
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
  // gRPC deadlines are moments of the machine's own clock, which the injected one need not follow.
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

/** grpc-js keeps it on the methods of its clients. */
function pathOf(method: object): string {
  return 'path' in method && typeof method.path === 'string' ? method.path : '/_OTHER';
}

/** Without the scheme of gRPC's name resolution. */
function targetOf(client: CoinServiceClient): string {
  return client
    .getChannel()
    .getTarget()
    .replace(/^[a-z]+:(\/\/\/?)?/, '');
}
