import { type ServiceError, status } from '@grpc/grpc-js';
import { BadRequest, ErrorInfo, RetryInfo } from 'nice-grpc-error-details';
import { Status } from 'nice-grpc-error-details/lib/proto/google/rpc/status';

/** A violation of the rules for one field of a request. */
export interface FieldViolation {
  /** The path of the field, for example `coins[3].public_key`. */
  readonly field: string;
  /** The rule that the field breaks. */
  readonly description: string;
}

/** The error of a failed call. Its fields are the parts of the google.rpc.Status; `cause` is the error of grpc-js. */
export class CoinServiceError extends Error {
  override readonly name = 'CoinServiceError';
  /** The gRPC status code. */
  readonly code: status;
  /** One of the reasons in docs/api.md, for example `RATE_LIMITED`; the name of the code if the service gave none. */
  readonly reason: string;
  /** Empty unless the reason is `INVALID_FIELD`. */
  readonly fieldViolations: readonly FieldViolation[];
  /** The time in milliseconds after which a repeat may succeed; undefined if the service requests no wait. */
  readonly retryAfterMs: number | undefined;

  constructor(cause: ServiceError) {
    super(cause.details, { cause });
    const details = detailsOf(cause);
    const info = details('ErrorInfo');
    const bad = details('BadRequest');
    const retry = details('RetryInfo');
    const delay = retry && RetryInfo.decode(retry).retryDelay;
    this.code = cause.code;
    this.reason = info ? ErrorInfo.decode(info).reason : (status[cause.code] ?? 'UNKNOWN');
    this.fieldViolations = bad ? BadRequest.decode(bad).fieldViolations : [];
    this.retryAfterMs = delay && delay.seconds * 1000 + delay.nanos / 1e6;
  }
}

function detailsOf({ metadata }: ServiceError): (type: string) => Uint8Array | undefined {
  const [packed] = metadata?.get('grpc-status-details-bin') ?? [];
  const { details } = packed instanceof Uint8Array ? Status.decode(packed) : { details: [] };
  return (type) => details.find(({ typeUrl }) => typeUrl.endsWith(`/google.rpc.${type}`))?.value;
}
