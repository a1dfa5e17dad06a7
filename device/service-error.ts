import { type ServiceError, status } from '@grpc/grpc-js';
import { ErrorInfo } from 'nice-grpc-error-details';
import { Status } from 'nice-grpc-error-details/lib/proto/google/rpc/status';

/** Recognizes an error of a gRPC call by its shape. */
export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'metadata' in error;
}

/** Returns one part of the google.rpc.Status that an error of the coin service carries, still encoded. */
export function detailOf(error: ServiceError, type: 'ErrorInfo' | 'RetryInfo'): Uint8Array | undefined {
  const [encoded] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!(encoded instanceof Uint8Array)) return undefined;
  return Status.decode(encoded).details.find(({ typeUrl }) => typeUrl.endsWith(`/google.rpc.${type}`))?.value;
}

/** Returns the UPPER_SNAKE reason of the coin service, or the name of the gRPC code if the error has no reason. */
export function reasonOf(error: ServiceError): string {
  const info = detailOf(error, 'ErrorInfo');
  return info ? ErrorInfo.decode(info).reason : (status[error.code] ?? 'UNKNOWN');
}

/** The codes of errors that repeating the same request cannot change. */
const FINAL_CODES: ReadonlySet<number> = new Set([
  status.INVALID_ARGUMENT,
  status.NOT_FOUND,
  status.ALREADY_EXISTS,
  status.PERMISSION_DENIED,
  status.FAILED_PRECONDITION,
  status.OUT_OF_RANGE,
  status.UNIMPLEMENTED,
  status.DATA_LOSS,
]);

/** Returns true if repeating the same request cannot succeed. */
export function isFinal(code: number): boolean {
  return FINAL_CODES.has(code);
}
