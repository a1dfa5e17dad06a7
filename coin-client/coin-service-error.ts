import type { status } from '@grpc/grpc-js';

/** A violation of the rules for one field of a request. */
export interface FieldViolation {
  /** The path of the field, for example `coins[3].public_key`. */
  readonly field: string;
  /** The rule that the field breaks. */
  readonly description: string;
}

/** The fields of a CoinServiceError, apart from its message. */
export interface CoinServiceErrorFields {
  readonly code: status;
  readonly reason: string;
  readonly fieldViolations?: readonly FieldViolation[];
  readonly retryAfterMs?: number | undefined;
  readonly callId?: string | undefined;
}

/**
 * The error of a failed call, of the typed client and of every flow of the device library. Its fields are the parts of
 * the google.rpc.Status; `cause` is the error of grpc-js, if there is one. A call that was refused before it was sent,
 * because of its token or a setting, has the same error. No message or field holds any part of a token.
 */
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
  /** The id by which the operators of the service find the call in its log; undefined if the service did not answer it. */
  readonly callId: string | undefined;

  // This file imports nothing at run time, so that catching the error does not load gRPC.
  constructor(message: string, fields: CoinServiceErrorFields, options?: ErrorOptions) {
    super(message, options);
    this.code = fields.code;
    this.reason = fields.reason;
    this.fieldViolations = fields.fieldViolations ?? [];
    this.retryAfterMs = fields.retryAfterMs;
    this.callId = fields.callId;
  }
}
