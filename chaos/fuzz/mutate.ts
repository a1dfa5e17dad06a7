/** A seeded random number generator: returns an integer from 0 to `below` - 1. */
export type Random = (below: number) => number;

/** Creates a generator (xorshift32). */
export function randomFrom(seed: number): Random {
  let state = (seed ^ 0x9e3779b9) >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
}

/** Byte sequences that break naive decoders of lengths, tags and varints. */
const TROUBLE = [
  [0x00],
  [0xff],
  [0x7f],
  [0x80],
  [0xff, 0xff, 0xff, 0xff, 0x0f],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
  [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
  [0x0b],
  [0x0c],
  [0xe0, 0x80, 0x80],
  [0xed, 0xa0, 0x80],
].map((bytes) => Buffer.from(bytes));

type Mutation = (bytes: Buffer, random: Random, other: Buffer) => Buffer;

const MUTATIONS: readonly Mutation[] = [
  // Flips one bit.
  (bytes, random) => replaced(bytes, random(bytes.length), (byte) => byte ^ (1 << random(8))),
  // Replaces one byte.
  (bytes, random) => replaced(bytes, random(bytes.length), () => random(256)),
  // Truncates.
  (bytes, random) => bytes.subarray(0, random(bytes.length)),
  // Inserts a troublesome sequence, or overwrites with it.
  (bytes, random) => splice(bytes, random(bytes.length), 0, pick(TROUBLE, random)),
  (bytes, random) => splice(bytes, random(bytes.length), 1 + random(4), pick(TROUBLE, random)),
  // Removes a part, or duplicates it.
  (bytes, random) => splice(bytes, random(bytes.length), 1 + random(40), Buffer.alloc(0)),
  (bytes, random) => {
    const start = random(bytes.length);
    return splice(bytes, start, 0, bytes.subarray(start, start + 1 + random(200)));
  },
  // Inserts a part of another request.
  (bytes, random, other) => {
    const start = random(other.length);
    return splice(bytes, random(bytes.length), random(20), other.subarray(start, start + 1 + random(100)));
  },
  // Appends random bytes.
  (bytes, random) => Buffer.concat([bytes, Buffer.from(Array.from({ length: 1 + random(30) }, () => random(256)))]),
];

/** Applies one to four random mutations to `bytes`. */
export function mutated(bytes: Buffer, random: Random, other: Buffer): Buffer {
  let result = bytes;
  for (let left = 1 + random(4); left > 0 && result.length > 0; left -= 1) {
    result = pick(MUTATIONS, random)(result, random, other.length > 0 ? other : bytes);
  }
  return result;
}

export function pick<T>(list: readonly T[], random: Random): T {
  return list[random(list.length)] as T;
}

function replaced(bytes: Buffer, at: number, change: (byte: number) => number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = change(copy[at] ?? 0);
  return copy;
}

function splice(bytes: Buffer, at: number, remove: number, insert: Uint8Array): Buffer {
  return Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + remove)]);
}
