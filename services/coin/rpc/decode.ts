import type { ServiceDefinition } from '@grpc/grpc-js';
import { LIMITS } from '../coin';
import { DomainError, InvalidFieldError, MessageTooLargeError, UndecodableMessageError } from '../errors';
import { BoundedReader, countField } from './bounded-reader';

/**
 * Size of the largest request that is accepted, in bytes. An upload of 100 GOLD coins has about 370
 * KB.
 */
export const MAX_REQUEST_BYTES = 1024 * 1024;

/**
 * Size up to which a request is decoded without a look at its elements, in bytes: it holds at most 1,024 of them, which
 * take about a millisecond. All fetches are smaller, except those that name many devices.
 */
const SMALL_REQUEST_BYTES = 2048;

/** A list in a request: the number and name of its field, and how many elements it may hold. */
interface RequestList {
  readonly field: number;
  readonly name: string;
  readonly min: number;
  readonly max: number;
}

/** The list of each request that has one, by the name of the method. */
export const REQUEST_LISTS: Readonly<Record<string, RequestList>> = {
  UploadCoins: { field: 1, name: 'coins', min: 1, max: LIMITS.coinsPerUpload },
  BatchFetchCoins: { field: 1, name: 'requests', min: 1, max: LIMITS.fetchesPerBatch },
  FetchDeviceCoins: { field: 1, name: 'requests', min: 1, max: LIMITS.fetchesPerBatch },
  ReconcileCoins: { field: 2, name: 'key_ids', min: 0, max: LIMITS.idsPerReconcile },
};

/**
 * Returns the service with decoders that do not throw. If one throws, grpc-js answers INTERNAL; to
 * a large message it answers RESOURCE_EXHAUSTED without details. So these decoders return the error
 * in place of the request, and rpc/unary.ts throws it. The elements of a large message are counted
 * before it is decoded.
 */
export function withCheckedDecoding<Definition extends ServiceDefinition>(service: Definition): Definition {
  const methods = Object.entries(service).map(([name, method]) => {
    const list = REQUEST_LISTS[method.path.slice(method.path.lastIndexOf('/') + 1)];
    const requestDeserialize = (bytes: Buffer): unknown => {
      if (bytes.length > MAX_REQUEST_BYTES) return new MessageTooLargeError(bytes.length, MAX_REQUEST_BYTES);
      try {
        if (bytes.length <= SMALL_REQUEST_BYTES) return method.requestDeserialize(bytes);
        if (list) checkList(bytes, list);
        // The generated decoders take a reader as well as bytes.
        return method.requestDeserialize(new BoundedReader(bytes) as unknown as Buffer);
      } catch (error) {
        return error instanceof DomainError ? error : new UndecodableMessageError(error);
      }
    };
    return [name, { ...method, requestDeserialize }];
  });
  return Object.fromEntries(methods);
}

/** @throws InvalidFieldError if the list is too long, RangeError if the bytes are no message */
function checkList(bytes: Buffer, { field, name, min, max }: RequestList): void {
  if (countField(bytes, field, max) <= max) return;
  throw new InvalidFieldError([{ field: name, description: `must hold ${min} to ${max} elements; it holds more` }]);
}
