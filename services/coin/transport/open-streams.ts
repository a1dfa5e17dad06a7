import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2';

/** The methods that node:http2 uses of the Map of a session's streams. */
type StreamMap = Pick<Map<number, ServerHttp2Stream>, 'get' | 'set' | 'delete' | 'forEach' | 'size'>;

interface Entry {
  readonly id: number;
  readonly stream: ServerHttp2Stream;
  next: Entry | undefined;
}

/**
 * Number of hash chains, a power of two. A session has at most 256 streams (maxStreams of config/), and
 * mostly one or none.
 */
const CHAINS = 16;

/**
 * Maps the ids of a session's open streams, which are consecutive odd numbers, to the streams.
 * Unlike a Map it never holds a reference to a closed stream; linked-list.ts explains what a Map
 * does.
 */
export class OpenStreams {
  readonly #chains: (Entry | undefined)[] = new Array(CHAINS).fill(undefined);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(id: number): ServerHttp2Stream | undefined {
    let entry = this.#chains[chainOf(id)];
    while (entry && entry.id !== id) entry = entry.next;
    return entry?.stream;
  }

  /** Adds a stream. Its id must not be present. */
  set(id: number, stream: ServerHttp2Stream): this {
    const chain = chainOf(id);
    this.#chains[chain] = { id, stream, next: this.#chains[chain] };
    this.#size += 1;
    return this;
  }

  delete(id: number): boolean {
    const chain = chainOf(id);
    let previous: Entry | undefined;
    let entry = this.#chains[chain];
    while (entry && entry.id !== id) {
      previous = entry;
      entry = entry.next;
    }
    if (!entry) return false;
    if (previous) previous.next = entry.next;
    else this.#chains[chain] = entry.next;
    entry.next = undefined;
    this.#size -= 1;
    return true;
  }

  /** Visits each stream. `visit` may delete the stream it is called with. */
  forEach(visit: (stream: ServerHttp2Stream, id: number) => void): void {
    for (const first of this.#chains) {
      for (let entry = first; entry; ) {
        const { id, stream, next } = entry;
        visit(stream, id);
        entry = next;
      }
    }
  }
}

/**
 * Replaces the Map that holds a session's streams by OpenStreams. The Map is private to node:http2.
 * If it is not found, as may happen with another version of Node, or not empty, nothing changes
 * (docs/adr/0009-streams-without-a-map.md).
 * @returns true if the Map was replaced
 */
export function replaceStreamMap(session: ServerHttp2Session): boolean {
  for (const symbol of Object.getOwnPropertySymbols(session)) {
    const state = Reflect.get(session, symbol) as { streams?: StreamMap } | null | undefined;
    if (symbol.description !== 'state' || !isEmptyMap(state?.streams)) continue;
    Object.assign(state as object, { streams: new OpenStreams() });
    return true;
  }
  return false;
}

function chainOf(id: number): number {
  return (id >> 1) & (CHAINS - 1);
}

function isEmptyMap(streams: StreamMap | undefined): boolean {
  return streams?.size === 0 && [streams.get, streams.set, streams.delete, streams.forEach].every(Boolean);
}
