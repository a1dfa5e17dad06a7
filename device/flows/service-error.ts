import { type ServiceError, status } from '@grpc/grpc-js';
import { ErrorInfo } from 'nice-grpc-error-details';
import { Status } from 'nice-grpc-error-details/lib/proto/google/rpc/status';

export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'metadata' in error;
}

/** One part of the google.rpc.Status that an error of the coin service carries, still encoded. */
export function detailOf(error: ServiceError, type: 'ErrorInfo' | 'RetryInfo'): Uint8Array | undefined {
  const [encoded] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!(encoded instanceof Uint8Array)) return undefined;
  return Status.decode(encoded).details.find(({ typeUrl }) => typeUrl.endsWith(`/google.rpc.${type}`))?.value;
}

/** The UPPER_SNAKE reason of the coin service, or the name of the gRPC code when the error carries none. */
export function reasonOf(error: ServiceError): string {
  const info = detailOf(error, 'ErrorInfo');
  return info ? ErrorInfo.decode(info).reason : (status[error.code] ?? 'UNKNOWN');
}

/** Codes of answers that repeating the same request can never change. */
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

export function isFinal(code: number): boolean {
  return FINAL_CODES.has(code);
}
