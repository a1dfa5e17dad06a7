import { Metadata, type StatusObject, status } from '@grpc/grpc-js';
import { Any, BadRequest, ErrorInfo, RetryInfo } from 'nice-grpc-error-details';
import { Status } from 'nice-grpc-error-details/lib/proto/google/rpc/status';
import type { ItemError } from '../../../gen/aqm/coin/v1/coin';
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
  RATE_LIMITED: status.RESOURCE_EXHAUSTED,
  MESSAGE_TOO_LARGE: status.RESOURCE_EXHAUSTED,
  REQUEST_ID_REUSED: status.FAILED_PRECONDITION,
  EPOCH_CHANGED: status.FAILED_PRECONDITION,
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

/** All error reasons of the contract. */
export const REASONS: readonly string[] = [...Object.keys(CODES), 'INTERNAL'];

/** The gRPC status of a refused or failed call. */
export interface FailureStatus extends StatusObject {
  /** The reason of its ErrorInfo. */
  readonly reason: string;
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
    const retryDelay = {
      seconds: Math.floor(error.retryAfterMs / 1000),
      nanos: (error.retryAfterMs % 1000) * 1_000_000,
    };
    details.push(any('google.rpc.RetryInfo', RetryInfo.encode(RetryInfo.fromPartial({ retryDelay })).finish()));
  }
  const metadata = new Metadata();
  metadata.set(
    'grpc-status-details-bin',
    Buffer.from(Status.encode(Status.fromPartial({ code, message, details })).finish()),
  );
  return { code, details: message, metadata, reason };
}

/** Maps an error to the error of one batch item. */
export function toItemError(error: unknown): ItemError {
  return toFailure(error);
}

function any(type: string, value: Uint8Array) {
  return Any.fromPartial({ typeUrl: `type.googleapis.com/${type}`, value });
}
