import { type Metadata, ServerInterceptingCall, type ServerInterceptor, ServerListenerBuilder } from '@grpc/grpc-js';
import { TokenMissingError } from '../errors';
import { setCaller } from '../identity/caller';
import type { VerifyToken } from '../identity/verify-token';
import { toStatus } from '../rpc/status';

/** Health and reflection are open; everything of ours needs a token. */
const GUARDED = '/aqm.';

/** Refuses a call without a valid bearer token before its message is read. */
export function authenticate(verify: VerifyToken): ServerInterceptor {
  return (method, call) => {
    if (!method.path.startsWith(GUARDED)) return new ServerInterceptingCall(call);
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        authenticated(metadata).then(
          () => next(metadata),
          (error: unknown) => call.sendStatus(toStatus(error)),
        );
      })
      .build();
    return new ServerInterceptingCall(call, { start: (next) => next(listener) });
  };

  async function authenticated(metadata: Metadata): Promise<void> {
    setCaller(metadata, await verify(bearerToken(metadata)));
  }
}

function bearerToken(metadata: Metadata): string {
  const [header] = metadata.get('authorization');
  const [, token] = /^Bearer +([^ ]+)$/i.exec(typeof header === 'string' ? header : '') ?? [];
  if (!token) throw new TokenMissingError();
  return token;
}
