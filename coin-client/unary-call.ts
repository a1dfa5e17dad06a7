import { type CallOptions, type Client, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { BadRequest, ErrorInfo, RetryInfo } from 'nice-grpc-error-details';
import { Status } from 'nice-grpc-error-details/lib/proto/google/rpc/status';
import { CoinServiceError, type CoinServiceErrorFields } from './coin-service-error';

/** A unary method of a generated client. */
export type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => unknown;

/** The longest deadline, in milliseconds: 24 days. A timer of Node holds 24.8, and one that is longer ends at once. */
const MAX_TIMEOUT_MS = 24 * 24 * 60 * 60_000;

/** Characters of a bearer token (RFC 6750). All others would break the header, or the error that quotes it. */
const BEARER_TOKEN = /^[A-Za-z0-9._~+/-]+=*$/;

/**
 * Calls `token` and returns the metadata of one call. Rejects with the error of `token`, or with CoinServiceError
 * (`TOKEN_INVALID`) if the result cannot be the token of any service. Nothing was sent then.
 */
export async function authorization(token: () => string | Promise<string>): Promise<Metadata> {
  const found: unknown = await token();
  if (typeof found !== 'string' || !BEARER_TOKEN.test(found)) {
    throw new CoinServiceError(
      `The token ${faultOf(found)}; return the bare token, without the word Bearer, spaces and line ends.`,
      { code: status.UNAUTHENTICATED, reason: 'TOKEN_INVALID' },
    );
  }
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${found}`);
  return metadata;
}

/** Says what is wrong with a token, without any part of it. */
function faultOf(token: unknown): string {
  if (typeof token !== 'string') return 'is not text';
  if (token === '') return 'is empty';
  if (/[\r\n]/.test(token)) return 'contains a line end';
  if (/\s/.test(token)) return 'contains a space';
  return 'contains a character that no token has';
}

/**
 * Makes one call.
 * @param timeoutMs its deadline in milliseconds; more than 24 days count as 24 days
 * @throws {CoinServiceError} if it fails
 */
export function unaryCall<Request, Response>(
  client: Client,
  method: UnaryMethod<Request, Response>,
  request: Request,
  metadata: Metadata,
  timeoutMs: number,
): Promise<Response> {
  // gRPC deadlines are times of the machine's own clock.
  const deadline = Date.now() + Math.min(timeoutMs, MAX_TIMEOUT_MS);
  return new Promise((resolve, reject) => {
    try {
      method.call(client, request, metadata, { deadline }, (error, response) => {
        // A client that an application has wrapped may fail with errors of its own.
        if (error) reject(typeof error.code === 'number' ? errorOf(error) : error);
        else resolve(response);
      });
    } catch (cause) {
      // grpc-js throws when the client is closed.
      const why = cause instanceof Error ? cause.message : String(cause);
      const fields = { code: status.CANCELLED, reason: 'CANCELLED' };
      reject(new CoinServiceError(`The call was not sent: ${why}`, fields, { cause }));
    }
  });
}

/** Returns the error of an answer that does not fit the request. The service is broken, or is another one. */
export function invalidAnswer(message: string): CoinServiceError {
  return new CoinServiceError(message, { code: status.INTERNAL, reason: 'INTERNAL' });
}

function errorOf(cause: ServiceError): CoinServiceError {
  const reason = status[cause.code] ?? 'UNKNOWN';
  const [callId] = cause.metadata?.get('aqm-call-id') ?? [];
  const fields = { code: cause.code, reason, callId: callId?.toString(), ...detailsOf(cause) };
  return new CoinServiceError(cause.details, fields, { cause });
}

/** Decodes the google.rpc.Status of an error. One that cannot be decoded counts as none: the code still says enough. */
function detailsOf({ metadata }: ServiceError): Partial<CoinServiceErrorFields> {
  try {
    const [packed] = metadata?.get('grpc-status-details-bin') ?? [];
    const { details } = packed instanceof Uint8Array ? Status.decode(packed) : { details: [] };
    const detail = (type: string) => details.find(({ typeUrl }) => typeUrl.endsWith(`/google.rpc.${type}`))?.value;
    const info = detail('ErrorInfo');
    const bad = detail('BadRequest');
    const retry = detail('RetryInfo');
    const delay = retry && RetryInfo.decode(retry).retryDelay;
    return {
      ...(info && { reason: ErrorInfo.decode(info).reason }),
      ...(bad && { fieldViolations: BadRequest.decode(bad).fieldViolations }),
      ...(delay && { retryAfterMs: delay.seconds * 1000 + delay.nanos / 1e6 }),
    };
  } catch {
    return {};
  }
}
