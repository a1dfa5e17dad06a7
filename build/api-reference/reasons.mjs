/** The meaning of each error reason for the caller, and `wait: true` if its error carries a RetryInfo. */
export const REASONS = {
  INVALID_FIELD: { means: '`BadRequest.field_violations` names every invalid field and what is allowed' },
  UNDECODABLE_MESSAGE: { means: "the bytes are not a message of this method's request type" },
  TOKEN_MISSING: { means: 'the call has no `authorization: Bearer …`' },
  TOKEN_INVALID: { means: 'the signature, issuer, audience or subject is wrong, or the token is not valid yet' },
  TOKEN_EXPIRED: { means: 'the token has expired; get a new one' },
  SCOPE_MISSING: { means: 'the method requires the scope `admin`' },
  RATE_LIMITED: {
    means: 'more coins or calls than the limits allow for this caller, or for all callers of this target together',
    wait: true,
  },
  MESSAGE_TOO_LARGE: { means: 'the request is larger than the limit; send less at once' },
  REQUEST_ID_REUSED: { means: 'the same `request_id` and target were used with other parameters; choose a new id' },
  EPOCH_CHANGED: {
    means:
      'the database was restored after the caller learned its epoch; nothing was changed. Do not resend requests that were made under an older epoch',
  },
  DEADLINE_EXCEEDED: {
    means: "the call's deadline passed. A fetch may have been carried out; repeat it with the same `request_id`",
  },
  DATABASE_UNAVAILABLE: { means: 'the database cannot be reached; the service reconnects by itself', wait: true },
  OVERLOADED: { means: 'the service is overloaded', wait: true },
  FENCED: {
    means: 'the database was restored and an operator has to decide what to do, or hand-outs cannot be recorded',
    wait: true,
  },
  LIMITS_UNAVAILABLE: { means: 'the rate limits cannot be checked, so the request was refused', wait: true },
  SHUTTING_DOWN: { means: 'this server is shutting down; another replica will serve the call', wait: true },
  INTERNAL: { means: 'a bug of the service; it was logged' },
};
