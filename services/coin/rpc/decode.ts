import type { ServiceDefinition } from '@grpc/grpc-js';
import { MessageTooLargeError, UndecodableMessageError } from '../errors';

/** Largest request that is read, in bytes. 100 GOLD coins need about 370 KB. */
export const MAX_REQUEST_BYTES = 1024 * 1024;

/**
 * The same service with decoders that do not throw: grpc-js answers INTERNAL when one does, and a bare
 * RESOURCE_EXHAUSTED for a large message. Instead the request becomes the error, and rpc/unary.ts throws it.
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
