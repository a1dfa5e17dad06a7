import { type Client, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { BadRequest, ErrorInfo, RequestInfo, RetryInfo } from 'nice-grpc-error-details';
import { Status } from 'nice-grpc-error-details/lib/proto/google/rpc/status';

/** The default deadline of a call, in milliseconds. It ends a test that hangs; a busy machine stays well below it. */
const DEADLINE_MS = 120_000;

/** A failed call, with the parts of its google.rpc.Status as fields. */
export class CallError extends Error {
  declare readonly cause: ServiceError;

  constructor(
    cause: ServiceError,
    /** The name of the gRPC status code. */
    readonly code: string,
    /** The reason of the ErrorInfo; empty without one. */
    readonly reason: string,
    /** The violated fields of the BadRequest; empty without one. */
    readonly fields: string[],
    /** The delay of the RetryInfo in milliseconds; undefined without one. */
    readonly retryAfterMs: number | undefined,
    /** The request id of the RequestInfo; empty without one. */
    readonly callId: string,
  ) {
    super(cause.details, { cause });
  }
}

/** Decodes the google.rpc.Status of a failed call. */
export function toCallError(error: ServiceError): CallError {
  const [packed] = error.metadata?.get('grpc-status-details-bin') ?? [];
  const { details } = packed instanceof Buffer ? Status.decode(packed) : { details: [] };
  const detail = (type: string) =>
    details.find((any) => any.typeUrl === `type.googleapis.com/google.rpc.${type}`)?.value;
  const info = detail('ErrorInfo');
  const bad = detail('BadRequest');
  const retry = detail('RetryInfo');
  const request = detail('RequestInfo');
  const delay = retry ? RetryInfo.decode(retry).retryDelay : undefined;
  return new CallError(
    error,
    status[error.code] ?? 'UNKNOWN',
    info ? ErrorInfo.decode(info).reason : '',
    bad ? BadRequest.decode(bad).fieldViolations.map((violation) => violation.field) : [],
    delay ? delay.seconds * 1000 + delay.nanos / 1e6 : undefined,
    request ? RequestInfo.decode(request).requestId : '',
  );
}

/** A unary method of a generated client, bound to the client. */
export type Unary<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: { deadline: number },
  callback: (error: ServiceError | null, response: Response) => void,
) => unknown;

/** Returns the metadata of a call with this bearer token; without one, empty metadata. */
export function bearer(token?: string): Metadata {
  const metadata = new Metadata();
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
  return metadata;
}

/**
 * Makes one call.
 * @param credentials a bearer token, or metadata that is sent as it is
 * @throws {CallError} if it fails
 */
export function call<Request, Response>(
  method: Unary<Request, Response>,
  request: Request,
  credentials?: string | Metadata,
  deadlineMs = DEADLINE_MS,
): Promise<Response> {
  const metadata = credentials instanceof Metadata ? credentials : bearer(credentials);
  return new Promise((resolve, reject) => {
    method(request, metadata, { deadline: Date.now() + deadlineMs }, (error, response) =>
      error ? reject(toCallError(error)) : resolve(response),
    );
  });
}

/**
 * Makes one call whose request and answer are bytes, also those of no valid message.
 * @param path of the method, such as `/aqm.coin.v1.CoinService/FetchCoins`
 * @throws {CallError} if it fails
 */
export function callBytes(client: Client, path: string, request: Uint8Array, metadata: Metadata): Promise<Buffer> {
  const same = (bytes: Buffer) => bytes;
  const method: Unary<Buffer, Buffer | undefined> = (bytes, headers, options, callback) =>
    client.makeUnaryRequest(path, same, same, bytes, headers, options, callback);
  return call(method, Buffer.from(request), metadata).then((answer) => answer ?? Buffer.alloc(0));
}
