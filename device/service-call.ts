import { type CallOptions, type ClientUnaryCall, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { ErrorInfo } from 'nice-grpc-error-details';
import { Status } from 'nice-grpc-error-details/lib/proto/google/rpc/status';
import type { CoinServiceClient } from '../gen/aqm/coin/v1/coin_service';
import { InvalidArgumentError } from './errors';

/** How the flows reach the coin service. */
export interface CoinServiceAccess {
  readonly client: CoinServiceClient;
  /** Asked before every call, so that it can renew the token. Without the word Bearer. */
  readonly token: () => string | Promise<string>;
  /** Deadline of each call in milliseconds, 1 to 300000. Default 10000. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 10_000;
/** Open requests rely on no call taking longer than this; see LONGEST_ASK_MS of the backends. */
const LONGEST_TIMEOUT_MS = 300_000;

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/** Flows check this before they change anything. */
export function checkAccess({ timeoutMs = DEFAULT_TIMEOUT_MS }: CoinServiceAccess): void {
  if (!(timeoutMs >= 1 && timeoutMs <= LONGEST_TIMEOUT_MS)) {
    throw new InvalidArgumentError('timeoutMs', `must be from 1 to ${LONGEST_TIMEOUT_MS}`);
  }
}

/** One call with token and deadline. Rejects with the ServiceError of grpc-js, or what `token` rejected with, as it is. */
export async function callService<Request, Response>(
  service: CoinServiceAccess,
  method: UnaryMethod<Request, Response>,
  request: Request,
): Promise<Response> {
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${await service.token()}`);
  // gRPC deadlines are moments of the machine's own clock, which the injected one need not follow.
  const deadline = Date.now() + (service.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  return new Promise((resolve, reject) => {
    method.call(service.client, request, metadata, { deadline }, (error, response) => {
      if (error) reject(error);
      else resolve(response);
    });
  });
}

export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'metadata' in error;
}

/** The UPPER_SNAKE reason of the coin service, or the name of the gRPC code when the error carries none. */
export function reasonOf(error: ServiceError): string {
  const [encoded] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (encoded instanceof Uint8Array) {
    for (const detail of Status.decode(encoded).details) {
      if (detail.typeUrl.endsWith('/google.rpc.ErrorInfo')) return ErrorInfo.decode(detail.value).reason;
    }
  }
  return status[error.code] ?? 'UNKNOWN';
}

/** Codes of answers that repeating the same request can never change. */
const FINAL_CODES: ReadonlySet<number> = new Set([
  status.INVALID_ARGUMENT,
  status.NOT_FOUND,
  status.ALREADY_EXISTS,
  status.PERMISSION_DENIED,
  status.FAILED_PRECONDITION,
  status.OUT_OF_RANGE,
  status.UNIMPLEMENTED,
  status.DATA_LOSS,
]);

export function isFinal(code: number): boolean {
  return FINAL_CODES.has(code);
}
