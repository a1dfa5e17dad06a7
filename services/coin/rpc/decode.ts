import type { ServiceDefinition } from '@grpc/grpc-js';
import { MessageTooLargeError, UndecodableMessageError } from '../errors';

/**
 * Size of the largest request that is accepted, in bytes. An upload of 100 GOLD coins has about 370
 * KB.
 */
export const MAX_REQUEST_BYTES = 1024 * 1024;

/**
 * Returns the service with decoders that do not throw. If one throws, grpc-js answers INTERNAL; to
 * a large message it answers RESOURCE_EXHAUSTED without details. So these decoders return the error
 * in place of the request, and rpc/unary.ts throws it.
 */
export function withCheckedDecoding<Definition extends ServiceDefinition>(service: Definition): Definition {
  const methods = Object.entries(service).map(([name, method]) => {
    const requestDeserialize = (bytes: Buffer): unknown => {
      if (bytes.length > MAX_REQUEST_BYTES) return new MessageTooLargeError(bytes.length, MAX_REQUEST_BYTES);
      try {
        return method.requestDeserialize(bytes);
      } catch (error) {
        return new UndecodableMessageError(error);
      }
    };
    return [name, { ...method, requestDeserialize }];
  });
  return Object.fromEntries(methods);
}
