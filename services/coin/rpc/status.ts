import { Metadata, type StatusObject, status } from '@grpc/grpc-js';
import { Any, BadRequest, ErrorInfo, RequestInfo, RetryInfo } from 'nice-grpc-error-details';
import { Status } from 'nice-grpc-error-details/lib/proto/google/rpc/status';
import type { ItemError } from '../../../gen/aqm/coin/v1/coin';
import { CALL_ID_TRAILER } from '../call-id';
import { DomainError, InvalidFieldError, TemporaryError } from '../errors';

/** The `domain` of every ErrorInfo. */
const DOMAIN = 'coin.aqm';

const CODES: Readonly<Record<string, status>> = {
  INVALID_FIELD: status.INVALID_ARGUMENT,
  UNDECODABLE_MESSAGE: status.INVALID_ARGUMENT,
  TOKEN_MISSING: status.UNAUTHENTICATED,
  TOKEN_INVALID: status.UNAUTHENTICATED,
  TOKEN_EXPIRED: status.UNAUTHENTICATED,
  SCOPE_MISSING: status.PERMISSION_DENIED,
  DEVICE_MISMATCH: status.PERMISSION_DENIED,
  RATE_LIMITED: status.RESOURCE_EXHAUSTED,
  MESSAGE_TOO_LARGE: status.RESOURCE_EXHAUSTED,
  CALL_TOO_LARGE: status.RESOURCE_EXHAUSTED,
  TOO_MANY_DEVICES: status.RESOURCE_EXHAUSTED,
  REQUEST_ID_REUSED: status.FAILED_PRECONDITION,
  EPOCH_CHANGED: status.FAILED_PRECONDITION,
  DEVICE_REMOVED: status.FAILED_PRECONDITION,
  USER_DELETED: status.FAILED_PRECONDITION,
  DEADLINE_EXCEEDED: status.DEADLINE_EXCEEDED,
  CANCELLED: status.CANCELLED,
  DATABASE_UNAVAILABLE: status.UNAVAILABLE,
  OVERLOADED: status.UNAVAILABLE,
  FENCED: status.UNAVAILABLE,
  LIMITS_UNAVAILABLE: status.UNAVAILABLE,
  TOKEN_KEYS_UNAVAILABLE: status.UNAVAILABLE,
  SHUTTING_DOWN: status.UNAVAILABLE,
};

/** Codes of failures that the server is responsible for, not the caller. */
const SERVER_FAULTS = new Set<status>([status.INTERNAL, status.UNKNOWN, status.UNAVAILABLE, status.DATA_LOSS]);

/**
 * Returns true if a call with this code failed because of the server, not because of its caller.
 */
export function isServerFault(code: status): boolean {
  return SERVER_FAULTS.has(code);
}

interface Failure {
  code: status;
  reason: string;
  message: string;
}

/**
 * Maps any error to its code, reason and message. An unexpected error becomes INTERNAL and reveals
 * nothing to the caller.
 */
function toFailure(error: unknown): Failure {
  if (error instanceof DomainError) {
    return { code: CODES[error.reason] ?? status.INTERNAL, reason: error.reason, message: error.message };
  }
  return {
    code: status.INTERNAL,
    reason: 'INTERNAL',
    message: 'An internal error occurred; it was logged on the server.',
  };
}

/** Returns the reason of the contract for any error. */
export function reasonOf(error: unknown): string {
  return toFailure(error).reason;
}

/** All error reasons of the contract. */
export const REASONS: readonly string[] = [...Object.keys(CODES), 'INTERNAL'];

/** Describes a failure beyond its status, for the log and the metrics. */
export interface FailureFacts {
  /** The reason of its ErrorInfo. */
  readonly reason: string;
  /** The error itself, if it is not one of the contract. */
  readonly unexpected?: unknown;
}

/** The gRPC status of a refused or failed call. */
export interface FailureStatus extends StatusObject, FailureFacts {
  readonly metadata: FailureMetadata;
}

/** The trailers of a failed call. grpc-js copies a status, and keeps of it only code, message and this object. */
class FailureMetadata extends Metadata {
  constructor(readonly facts: FailureFacts) {
    super();
  }
}

/** Returns what is known of a failure whose status was made by `toStatus`; undefined for any other status. */
export function factsOf({
  metadata,
}: Partial<StatusObject> | { metadata?: Metadata | null }): FailureFacts | undefined {
  return metadata instanceof FailureMetadata ? metadata.facts : undefined;
}

/** The trailer that the retries of gRPC obey: the time to wait in milliseconds. A negative one forbids the next attempt. */
const PUSHBACK_TRAILER = 'grpc-retry-pushback-ms';
const NO_RETRY = '-1';
/**
 * Longest time that gRPC's retries are made to wait, in milliseconds. A call that waited longer would
 * end by its deadline, and its caller would not learn the reason.
 */
const MAX_PUSHBACK_MS = 10_000;
/** Greatest part by which a pushback is longer: gRPC adds no jitter, and the calls of one moment must not come back in one. */
const PUSHBACK_JITTER = 0.5;
/** Codes of failures for which it is not known that a repeat is no use. */
const MAY_PASS = new Set<status>([status.INTERNAL, status.DEADLINE_EXCEEDED, status.CANCELLED]);

const DETAILS_TRAILER = 'grpc-status-details-bin';

/**
 * Returns the trailers of one call with its id, which is also added to the details of its error if it has some. A pushback is
 * lengthened by a random part, because many calls may end with the same status.
 */
export function withCallId(trailers: Metadata | null | undefined, callId: string): Metadata {
  const metadata = trailers?.clone() ?? new Metadata();
  metadata.set(CALL_ID_TRAILER, callId);
  const [details] = metadata.get(DETAILS_TRAILER);
  if (!(details instanceof Buffer)) return metadata;
  // Protobuf merges messages whose bytes follow each other, and appends what is in repeated fields.
  const info = any(
    'google.rpc.RequestInfo',
    RequestInfo.encode(RequestInfo.fromPartial({ requestId: callId })).finish(),
  );
  const added = Status.encode(Status.fromPartial({ details: [info] })).finish();
  metadata.set(DETAILS_TRAILER, Buffer.concat([details, added]));
  const pushbackMs = Number(metadata.get(PUSHBACK_TRAILER)[0] ?? NO_RETRY);
  if (pushbackMs > 0) {
    metadata.set(PUSHBACK_TRAILER, String(Math.ceil(pushbackMs * (1 + PUSHBACK_JITTER * Math.random()))));
  }
  return metadata;
}

/**
 * Maps an error to a google.rpc.Status with ErrorInfo and, where they apply, BadRequest and
 * RetryInfo.
 */
export function toStatus(error: unknown): FailureStatus {
  const { code, reason, message } = toFailure(error);
  const details = [
    any('google.rpc.ErrorInfo', ErrorInfo.encode(ErrorInfo.fromPartial({ reason, domain: DOMAIN })).finish()),
  ];
  if (error instanceof InvalidFieldError) {
    const fieldViolations = error.violations.map(({ field, description }) => ({ field, description }));
    details.push(any('google.rpc.BadRequest', BadRequest.encode(BadRequest.fromPartial({ fieldViolations })).finish()));
  }
  if (error instanceof TemporaryError) {
    const retryDelay = durationOf(error);
    details.push(any('google.rpc.RetryInfo', RetryInfo.encode(RetryInfo.fromPartial({ retryDelay })).finish()));
  }
  const facts: FailureFacts = error instanceof DomainError ? { reason } : { reason, unexpected: error };
  const metadata = new FailureMetadata(facts);
  metadata.set(DETAILS_TRAILER, Buffer.from(Status.encode(Status.fromPartial({ code, message, details })).finish()));
  const pushback = pushbackOf(error, code);
  if (pushback !== undefined) metadata.set(PUSHBACK_TRAILER, pushback);
  return { code, details: message, metadata, ...facts };
}

/** Returns the value of the trailer; undefined if a client's own policy shall decide. */
function pushbackOf(error: unknown, code: status): string | undefined {
  if (!(error instanceof TemporaryError)) return MAY_PASS.has(code) ? undefined : NO_RETRY;
  if (error.retryAfterMs > MAX_PUSHBACK_MS) return NO_RETRY;
  return String(Math.ceil(error.retryAfterMs));
}

/** Maps an error to the error of one batch item. */
export function toItemError(error: unknown): ItemError {
  if (!(error instanceof TemporaryError)) return { ...toFailure(error), retryDelay: undefined };
  const { seconds, nanos } = durationOf(error);
  return { ...toFailure(error), retryDelay: { seconds: BigInt(seconds), nanos } };
}

function durationOf({ retryAfterMs }: TemporaryError): { seconds: number; nanos: number } {
  return { seconds: Math.floor(retryAfterMs / 1000), nanos: Math.round((retryAfterMs % 1000) * 1_000_000) };
}

function any(type: string, value: Uint8Array) {
  return Any.fromPartial({ typeUrl: `type.googleapis.com/${type}`, value });
}
