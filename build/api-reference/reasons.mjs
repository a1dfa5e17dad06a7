/** For each reason: its meaning for the caller, and whether the error carries a RetryInfo. */
export const REASONS = {
  INVALID_FIELD: { means: '`BadRequest.field_violations` names every field that was wrong, and what is allowed' },
  UNDECODABLE_MESSAGE: { means: 'the bytes are no message of this method' },
  TOKEN_MISSING: { means: 'no `authorization: Bearer …`' },
  TOKEN_INVALID: { means: 'a wrong signature, issuer, audience or subject, or not valid yet' },
  TOKEN_EXPIRED: { means: 'get a new token' },
  SCOPE_MISSING: { means: 'the method needs the scope `admin`' },
  RATE_LIMITED: {
    means: 'more coins or calls than the limits allow this caller, or all callers of this target',
    wait: true,
  },
  MESSAGE_TOO_LARGE: { means: 'send less at once' },
  REQUEST_ID_REUSED: { means: 'the same `request_id` and target with other parameters: choose a new id' },
  EPOCH_CHANGED: {
    means:
      'the database was restored since the caller learned its epoch; nothing was changed. What was sent under the old one must not be sent again',
  },
  DEADLINE_EXCEEDED: {
    means: "the call's own deadline; a fetch may have been carried out: repeat it with its `request_id`",
  },
  DATABASE_UNAVAILABLE: { means: 'passes by itself', wait: true },
  OVERLOADED: { means: 'more calls than can be worked on', wait: true },
  FENCED: { means: 'the database was restored, and an operator has to decide', wait: true },
  LIMITS_UNAVAILABLE: { means: 'the limits cannot be checked, and nothing is handed out without them', wait: true },
  SHUTTING_DOWN: { means: 'another replica will answer', wait: true },
  INTERNAL: { means: 'a bug of ours; it was logged' },
};
