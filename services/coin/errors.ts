/** A failure that callers are told about. Knows neither gRPC nor SQL; rpc/status.ts gives it a code. */
export abstract class DomainError extends Error {
  /** The `reason` of the contract, UPPER_SNAKE. */
  abstract readonly reason: string;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

export interface FieldViolation {
  /** Path of the field in the request, for example `coins[3].public_key`. */
  readonly field: string;
  /** What was wrong and what is allowed. */
  readonly description: string;
}

/** At least one field of the request holds something that is not allowed; nothing was changed. */
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
    super(`This call needs a token whose scope holds "${scope}".`);
  }
}

export class RequestIdReusedError extends DomainError {
  readonly reason = 'REQUEST_ID_REUSED';
  constructor() {
    super('This request_id was used for the same target with another category, count or fallback; choose a new one.');
  }
}

export class EpochChangedError extends DomainError {
  readonly reason = 'EPOCH_CHANGED';
  constructor(readonly epoch: string) {
    super(`The database now lives in epoch ${epoch}; what was sent under an older one must not be sent again.`);
  }
}

/** Trouble that passes: the same call may succeed after `retryAfterMs`. */
export abstract class TemporaryError extends DomainError {
  readonly retryAfterMs: number = 1000;
}

export class DatabaseUnavailableError extends TemporaryError {
  readonly reason = 'DATABASE_UNAVAILABLE';
  constructor(cause: unknown) {
    super('The database cannot be reached at the moment.', { cause });
  }
}

export class FencedError extends TemporaryError {
  readonly reason = 'FENCED';
  override readonly retryAfterMs = 5000;
  constructor(options?: ErrorOptions) {
    super(
      'The database was restored or replaced and may not know everything that was handed out; an operator has to decide.',
      options,
    );
  }
}

export class OverloadedError extends TemporaryError {
  readonly reason = 'OVERLOADED';
  constructor(cause?: unknown) {
    super('The service has more to do than it can at the moment.', { cause });
  }
}

export class LimitsUnavailableError extends TemporaryError {
  readonly reason = 'LIMITS_UNAVAILABLE';
  constructor(options: ErrorOptions) {
    super('The limits cannot be checked at the moment, and nothing is handed out or stored without them.', options);
  }
}

/** The caller, or everybody together, asked for more than the limits allow. */
export class RateLimitedError extends TemporaryError {
  readonly reason = 'RATE_LIMITED';
  constructor(
    override readonly retryAfterMs: number,
    what: string,
  ) {
    super(`Too many ${what}; there is room for this again in ${Math.ceil(retryAfterMs / 1000)} s.`);
  }
}

export class TokenKeysUnavailableError extends TemporaryError {
  readonly reason = 'OVERLOADED';
  constructor(options: ErrorOptions) {
    super('The keys that tokens are checked with cannot be fetched at the moment.', options);
  }
}

/** The caller's time was over before its call was answered. A fetch may have been carried out; its `request_id` tells. */
export class DeadlineExceededError extends DomainError {
  readonly reason = 'DEADLINE_EXCEEDED';
  constructor() {
    super('The deadline of the call has passed.');
  }
}

/** The caller gave the call up, or is gone. It hears nothing of this. */
export class CancelledError extends DomainError {
  readonly reason = 'CANCELLED';
  constructor() {
    super('The call was given up by its caller.');
  }
}

export class ShuttingDownError extends TemporaryError {
  readonly reason = 'SHUTTING_DOWN';
  constructor() {
    super('This server is shutting down; another one will answer.');
  }
}
