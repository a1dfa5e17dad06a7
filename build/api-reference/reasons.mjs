/** The meaning of each error reason for the caller, and `wait: true` if its error carries a RetryInfo. */
export const REASONS = {
  INVALID_FIELD: { means: '`BadRequest.field_violations` names every invalid field and what is allowed' },
  UNDECODABLE_MESSAGE: { means: "the bytes are not a message of this method's request type" },
  TOKEN_MISSING: { means: 'the call has no `authorization: Bearer …`' },
  TOKEN_INVALID: { means: 'the signature, issuer, audience or subject is wrong, or the token is not valid yet' },
  TOKEN_EXPIRED: { means: 'the token has expired; get a new one' },
  SCOPE_MISSING: { means: 'the method requires the scope `admin`' },
  DEVICE_MISMATCH: { means: 'the token is for one device, and `device_id` names another one' },
  RATE_LIMITED: {
    means:
      'more coins or calls than the limits allow for this caller, or for all callers of this target together; or too many invalid tokens from this address',
    wait: true,
  },
  CALL_TOO_LARGE: {
    means:
      'an item of FetchDeviceCoins for which its call has no room: 1,000 coins, counted as devices times `count`. Send it in another call',
  },
  MESSAGE_TOO_LARGE: { means: 'the request is larger than the limit; send less at once' },
  TOO_MANY_DEVICES: {
    means: 'the user has the maximum number of devices, and this upload would add one. Remove a device first',
  },
  REQUEST_ID_REUSED: { means: 'the same `request_id` and target were used with other parameters; choose a new id' },
  EPOCH_CHANGED: {
    means:
      'the database was restored after the caller learned its epoch; nothing was changed. Do not resend requests that were made under an older epoch',
  },
  DEVICE_REMOVED: {
    means: 'the device was removed (`RemoveDevice`). Do not repeat the upload; the device needs a new `device_id`',
  },
  USER_DELETED: {
    means: 'the account of the caller was deleted (`DeleteUser`). Do not repeat the call; the coins are gone',
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
  TOKEN_KEYS_UNAVAILABLE: {
    means: 'the keys that the token could be verified with cannot be fetched from the issuer',
    wait: true,
  },
  SHUTTING_DOWN: { means: 'this server is shutting down; another replica will serve the call', wait: true },
  INTERNAL: { means: 'a bug of the service; it was logged' },
};
