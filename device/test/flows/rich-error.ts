import { Metadata, status } from '@grpc/grpc-js';
import { Any, ErrorInfo, RetryInfo } from 'nice-grpc-error-details';
import { Status } from 'nice-grpc-error-details/lib/proto/google/rpc/status';

/** An error that the scripted service answers. */
export interface Failure {
  readonly code: status;
  readonly reason?: string;
  /** The delay of the RetryInfo, in milliseconds. */
  readonly retryAfterMs?: number;
}

/** Returns a gRPC error with the details of google.rpc.Status. */
export function rich({ code, reason, retryAfterMs }: Failure) {
  const metadata = new Metadata();
  const any = (type: string, value: Uint8Array) =>
    Any.fromPartial({ typeUrl: `type.googleapis.com/google.rpc.${type}`, value });
  if (reason !== undefined) {
    const details = [
      any('ErrorInfo', ErrorInfo.encode(ErrorInfo.fromPartial({ domain: 'coin.aqm', reason })).finish()),
    ];
    if (retryAfterMs !== undefined) {
      const retryDelay = { seconds: Math.floor(retryAfterMs / 1000), nanos: (retryAfterMs % 1000) * 1e6 };
      details.push(any('RetryInfo', RetryInfo.encode(RetryInfo.fromPartial({ retryDelay })).finish()));
    }
    const encoded = Status.encode(Status.fromPartial({ code, message: reason, details })).finish();
    metadata.set('grpc-status-details-bin', Buffer.from(encoded));
  }
  return { code, details: reason ?? status[code], metadata };
}
