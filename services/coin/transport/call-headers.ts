import type { IncomingHttpHeaders } from 'node:http2';
import { type DomainError, InvalidFieldError } from '../errors';

/**
 * The kind of an open call, by what it may hold up: `call` needs a token; `stream` lasts as long as its caller wants
 * (health watch, reflection); `health` asks for the health once.
 */
export type CallKind = 'call' | 'stream' | 'health';
export const CALL_KINDS: readonly CallKind[] = ['call', 'stream', 'health'];

/** Path of the health watch, the only call without a timeout. */
export const WATCH = '/grpc.health.v1.Health/Watch';

/** Returns the kind of a call by its path. */
export function kindOf(path: string | undefined): CallKind {
  if (!path?.startsWith('/grpc.')) return 'call';
  return path.startsWith('/grpc.health.') && path !== WATCH ? 'health' : 'stream';
}

/**
 * The content types of gRPC with protobuf. Those of gRPC-Web begin in the same way, and grpc-js would
 * take them for gRPC.
 */
const GRPC = /^application\/grpc(\+proto)?[ \t]*(;|$)/;

/** Returns true if the request has the content type of gRPC with protobuf. Everything else is another protocol. */
export function isGrpc({ 'content-type': contentType }: IncomingHttpHeaders): boolean {
  return contentType !== undefined && GRPC.test(contentType);
}

/** The form of `grpc-timeout` in the gRPC protocol. */
const TIMEOUT = /^\d{1,8}[HMSmun]$/;
/** Longest time that a timer holds, in milliseconds: 24.8 days. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** The units of `grpc-timeout` from a second on, in milliseconds. Smaller units cannot name so long a time. */
const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000 };

/**
 * Checks the deadline of a call, before grpc-js does: it answers INTERNAL to a malformed one, and
 * ends a call at once if a timer cannot hold its deadline. The deadline of such a call is removed.
 * @returns the error to answer with, or undefined
 */
export function checkTimeout(headers: IncomingHttpHeaders): DomainError | undefined {
  const timeout = headers['grpc-timeout'];
  if (timeout === undefined) return undefined;
  if (typeof timeout !== 'string' || !TIMEOUT.test(timeout)) {
    const description = 'must be 1 to 8 digits followed by a unit: H, M, S, m, u or n; for example 5S';
    return new InvalidFieldError([{ field: 'grpc-timeout', description }]);
  }
  const unitMs = UNIT_MS[timeout.at(-1) ?? ''];
  if (unitMs !== undefined && Number.parseInt(timeout, 10) * unitMs > MAX_TIMER_MS) delete headers['grpc-timeout'];
  return undefined;
}
