import type { ServiceDefinition } from '@grpc/grpc-js';
import { MessageTooLargeError } from '../errors';
import { withCheckedDecoding } from '../rpc/decode';

/** Size of the largest request to health and reflection, in bytes. Such a request holds one or two names. */
const MAX_REQUEST_BYTES = 1024;

/**
 * Returns the service with decoders that refuse larger requests and do not throw; see
 * withCheckedDecoding. Reflection returns the request with its answer, and needs no token.
 */
export function withSmallRequests<Definition extends ServiceDefinition>(service: Definition): Definition {
  const methods = Object.entries(service).map(([name, method]) => {
    const requestDeserialize = (bytes: Buffer): unknown =>
      bytes.length > MAX_REQUEST_BYTES
        ? new MessageTooLargeError(bytes.length, MAX_REQUEST_BYTES)
        : method.requestDeserialize(bytes);
    return [name, { ...method, requestDeserialize }];
  });
  return withCheckedDecoding(Object.fromEntries(methods) as Definition);
}
