/** A failure that is reported to callers. It knows neither gRPC nor SQL; rpc/status.ts gives it a status code. */
export abstract class DomainError extends Error {
  /** The `reason` of the contract, in UPPER_SNAKE. */
  abstract readonly reason: string;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

export interface FieldViolation {
  /** Path of the field in the request, for example `coins[3].public_key`. */
  readonly field: string;
  /** Says what is wrong and what is allowed. */
  readonly description: string;
}

/** Reports every field of a request whose value is not allowed. Nothing was changed. */
export class InvalidFieldError extends DomainError {
  readonly reason = 'INVALID_FIELD';
  constructor(readonly violations: readonly FieldViolation[]) {
    super(violations.map((violation) => `${violation.field}: ${violation.description}`).join('; '));
  }
}

export class UndecodableMessageError extends DomainError {
  readonly reason = 'UNDECODABLE_MESSAGE';
  constructor(cause: unknown) {
    super('The request is not a valid message of this method.', { cause });
  }
}

export class MessageTooLargeError extends DomainError {
  readonly reason = 'MESSAGE_TOO_LARGE';
  constructor(
    readonly bytes: number,
    readonly maxBytes: number,
  ) {
    super(`The request has ${bytes} bytes; at most ${maxBytes} are allowed.`);
  }
}

export class TokenMissingError extends DomainError {
  readonly reason = 'TOKEN_MISSING';
  constructor() {
    super('This call needs the metadata entry "authorization: Bearer <JWT>".');
  }
}

export class TokenInvalidError extends DomainError {
  readonly reason = 'TOKEN_INVALID';
  constructor(why: string, options?: ErrorOptions) {
    super(`The bearer token was not accepted: ${why}.`, options);
  }
}

export class TokenExpiredError extends DomainError {
  readonly reason = 'TOKEN_EXPIRED';
  constructor() {
    super('The bearer token has expired; get a new one.');
  }
}

export class ScopeMissingError extends DomainError {
  readonly reason = 'SCOPE_MISSING';
  constructor(readonly scope: string) {
    super(`This call needs a token whose scope contains "${scope}".`);
  }
}

export class DeviceMismatchError extends DomainError {
  readonly reason = 'DEVICE_MISMATCH';
  constructor() {
    super('The token is for another device than device_id; leave device_id empty, or use a token of that device.');
  }
}

export class DeviceRemovedError extends DomainError {
  readonly reason = 'DEVICE_REMOVED';
  constructor() {
    super('This device was removed; its uploads are refused. Set it up again under a new device_id.');
  }
}

export class TooManyDevicesError extends DomainError {
  readonly reason = 'TOO_MANY_DEVICES';
  /** @param remembered the maximum with removed devices */
  constructor(maxDevices: number, remembered: number) {
    super(
      `A user has at most ${maxDevices} devices, and ${remembered} with those that were removed in the last 31 days; remove one, or wait.`,
    );
  }
}

export class RequestIdReusedError extends DomainError {
  readonly reason = 'REQUEST_ID_REUSED';
  constructor() {
    super('This request_id was used for the same target with other parameters or devices; choose a new one.');
  }
}

export class EpochChangedError extends DomainError {
  readonly reason = 'EPOCH_CHANGED';
  constructor(readonly epoch: string) {
    super(`The database epoch is now ${epoch}. Do not resend requests that were made under an older epoch.`);
  }
}

export class UserDeletedError extends DomainError {
  readonly reason = 'USER_DELETED';
  constructor() {
    super('The account of this user was deleted; its uploads and fetches are refused.');
  }
}

/** Reports an item of FetchDeviceCoins for which its call has no room. No coin was handed out for it. */
export class CallTooLargeError extends DomainError {
  readonly reason = 'CALL_TOO_LARGE';
  constructor() {
    super('A call hands out at most 1000 coins, counted as devices times `count`; send this item in another call.');
  }
}

/** A failure that passes: the same call may succeed after `retryAfterMs`. */
export abstract class TemporaryError extends DomainError {
  readonly retryAfterMs: number = 1000;
}

export class DatabaseUnavailableError extends TemporaryError {
  readonly reason = 'DATABASE_UNAVAILABLE';
  constructor(cause: unknown) {
    super('The database cannot be reached right now; retry later.', { cause });
  }
}

export class FencedError extends TemporaryError {
  readonly reason = 'FENCED';
  override readonly retryAfterMs: number = 5000;
  constructor(
    options?: ErrorOptions,
    message = 'The database was restored or replaced and may lack some hand-outs, so the request was refused until an operator decides.',
  ) {
    super(message, options);
  }
}

/** Hand-outs cannot be recorded outside the database, so nothing is handed out. Nothing was changed. */
export class WatermarkUnavailableError extends FencedError {
  override readonly retryAfterMs = 1000;
  constructor(options?: ErrorOptions) {
    super(options, 'Hand-outs cannot be recorded right now, so the request was refused; retry later.');
  }
}

/** The coins of a fetch are spent, but were not recorded outside the database, and so not answered. */
export class UnrecordedError extends FencedError {
  override readonly retryAfterMs = 1000;
  constructor(cause: unknown) {
    super(
      { cause },
      'The request was carried out, but could not be recorded, so its answer was withheld; repeat it later with the same request_id.',
    );
  }
}

/**
 * Returns true if the failed request may have been carried out: its outcome is unknown, or its
 * answer was withheld. It is charged then.
 */
export function mayHaveHappened(error: unknown): boolean {
  return error instanceof DatabaseUnavailableError || error instanceof UnrecordedError;
}

export class OverloadedError extends TemporaryError {
  readonly reason = 'OVERLOADED';
  constructor(cause?: unknown) {
    super('The service is overloaded; retry later.', { cause });
  }
}

export class LimitsUnavailableError extends TemporaryError {
  readonly reason = 'LIMITS_UNAVAILABLE';
  constructor(options: ErrorOptions) {
    super('Rate limits cannot be checked right now, so the request was refused.', options);
  }
}

/** Reports that a rate limit of the caller, or one that all callers share, is exceeded. */
export class RateLimitedError extends TemporaryError {
  readonly reason = 'RATE_LIMITED';
  /** @param limited what the limit is for, such as "fetched coins" */
  constructor(
    override readonly retryAfterMs: number,
    limited: string,
  ) {
    super(`Rate limit exceeded for ${limited}; retry in ${Math.ceil(retryAfterMs / 1000)} s.`);
  }
}

export class TokenKeysUnavailableError extends TemporaryError {
  readonly reason = 'TOKEN_KEYS_UNAVAILABLE';
  constructor(options: ErrorOptions) {
    super('The token verification keys cannot be fetched right now.', options);
  }
}

/** Reports that the deadline passed before the call was answered. A fetch may have been carried out; a repeat with its `request_id` shows the outcome. */
export class DeadlineExceededError extends DomainError {
  readonly reason = 'DEADLINE_EXCEEDED';
  constructor() {
    super('The deadline of the call has passed.');
  }
}

/** The caller cancelled or disconnected; it will not receive this error. */
export class CancelledError extends DomainError {
  readonly reason = 'CANCELLED';
  constructor() {
    super('The caller cancelled the call.');
  }
}

export class ShuttingDownError extends TemporaryError {
  readonly reason = 'SHUTTING_DOWN';
  constructor() {
    super('This server is shutting down; retry, and another server will answer.');
  }
}
