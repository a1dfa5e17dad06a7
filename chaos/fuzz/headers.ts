import type { OutgoingHttpHeaders } from 'node:http2';
import { deflateSync, gzipSync } from 'node:zlib';
import { mutated, pick, type Random } from './mutate';
import { framed } from './wire';

/** The parts of a request after its path: headers that replace or, if undefined, remove the usual ones, and the body. */
export interface Envelope {
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer;
}

const TIMEOUTS = [
  '',
  '0S',
  '1n',
  '1u',
  '20m',
  '5S',
  '1M',
  '597H',
  '99999999H',
  '123456789S',
  '-1S',
  '5',
  'S',
  '5s',
  '5S,5S',
  '1.5S',
  '0x1S',
  '∞S',
];
const ENCODINGS = ['identity', 'gzip', 'deflate', 'zstd', '', 'GZIP', 'gzip,deflate', 'identity;q=0', '\x7f'];
const CONTENT_TYPES = [
  'application/grpc+proto',
  'application/grpc+json',
  'application/grpc;charset=utf-8',
  'application/grpcx',
  'text/plain',
  '',
  undefined,
];
const METHODS = ['GET', 'PUT', 'HEAD', 'OPTIONS', 'post', 'X'];
const NAMES = [
  'x-bin',
  'grpc-trace-bin',
  'traceparent',
  'tracestate',
  'baggage',
  'grpc-accept-encoding',
  'grpc-previous-rpc-attempts',
  'grpc-message-type',
  'cookie',
  'expect',
  'content-length',
  'host',
  'user-agent',
  'x!#$%',
  'x_.-',
  '__proto__',
  'constructor',
];
const VALUES = [
  '',
  ' ',
  '0',
  '-1',
  '5',
  '100-continue',
  '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  '00-00000000000000000000000000000000-0000000000000000-00',
  '%%%',
  'a,b,,c',
  'AAAA====',
  '\t',
  'ü\xff',
  'a'.repeat(3000),
];

/** Messages that inflate to less and to more than the service reads, in bytes. */
const BOMBS = [0, 500_000, 5_000_000, 10_000_000].map((size) => gzipSync(Buffer.alloc(size)));

/** Compresses the message or not, and frames it with a flag that may be wrong. */
function compressed(message: Buffer, random: Random): Envelope {
  const encoding = pick(ENCODINGS, random);
  const packed = random(2) === 0 ? gzipSync(message) : deflateSync(message);
  // Bombs are rare: resident memory would follow the number of them that are inflated at the same time.
  let content = random(20) === 0 ? pick(BOMBS, random) : pick([message, packed, packed], random);
  if (random(3) === 0) content = mutated(content, random, message);
  const body = framed(content);
  body[0] = pick([1, 1, 1, 0, 2, 255], random);
  return { headers: { 'grpc-encoding': encoding }, body };
}

type HeaderMutation = (random: Random, token: string) => OutgoingHttpHeaders;

const MUTATIONS: readonly HeaderMutation[] = [
  (random) => ({ 'grpc-timeout': pick(TIMEOUTS, random) }),
  (random) => ({ 'grpc-timeout': text(Buffer.from(pick(TIMEOUTS, random)), random) }),
  (random) => ({ 'grpc-timeout': `${random(100_000_000)}${pick([...'HMSmun'], random)}` }),
  (random) => ({ 'content-type': pick(CONTENT_TYPES, random) }),
  (random) => ({ te: pick(['', 'trailers', 'trailers, gzip', undefined], random) }),
  (random) => ({ ':method': pick(METHODS, random) }),
  (random, token) => ({
    authorization: pick(
      [undefined, '', 'Bearer', 'Bearer ', `Bearer ${token} x`, `bearer  ${token}`, `Basic ${token}`],
      random,
    ),
  }),
  (random, token) => ({ authorization: `Bearer ${text(Buffer.from(token), random)}` }),
  (random) => ({ [pick(NAMES, random)]: pick(VALUES, random) }),
  (random) => ({ [pick(NAMES, random)]: Array.from({ length: 1 + random(5) }, () => pick(VALUES, random)) }),
  (random) =>
    Object.fromEntries(Array.from({ length: random(150) }, (_, index) => [`x-${index}`, pick(VALUES, random)])),
];

/** Returns a valid message with one to three mutated headers, or a message that claims to be compressed. */
export function mutatedEnvelope(message: Buffer, token: string, random: Random): Envelope {
  const { headers, body } = random(3) === 0 ? compressed(message, random) : { headers: {}, body: framed(message) };
  for (let left = 1 + random(3); left > 0; left -= 1) Object.assign(headers, pick(MUTATIONS, random)(random, token));
  return { headers, body };
}

/** Returns mutated text, one character for each byte. */
function text(bytes: Buffer, random: Random): string {
  return mutated(bytes, random, bytes).toString('latin1');
}
