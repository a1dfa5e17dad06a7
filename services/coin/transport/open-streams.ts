import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2';

/** What node:http2 asks of the Map that it keeps a session's streams in. */
type StreamMap = Pick<Map<number, ServerHttp2Stream>, 'get' | 'set' | 'delete' | 'forEach' | 'size'>;

interface Entry {
  readonly id: number;
  readonly stream: ServerHttp2Stream;
  next: Entry | undefined;
}

/** A power of two. A session has 256 streams at most (maxStreams of config/), and mostly one or none. */
const CHAINS = 16;

/**
 * The open streams of a session by their ids, which are odd numbers one after the other. Nothing of it leads to a stream that is gone;
 * for what a Map does, see linked-list.ts.
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

  /** Of an id that is not there. */
  set(id: number, stream: ServerHttp2Stream): this {
    const chain = chainOf(id);
    this.#chains[chain] = { id, stream, next: this.#chains[chain] };
    this.#size += 1;
    return this;
  }

  delete(id: number): boolean {
    const chain = chainOf(id);
    let before: Entry | undefined;
    let entry = this.#chains[chain];
    while (entry && entry.id !== id) {
      before = entry;
      entry = entry.next;
    }
    if (!entry) return false;
    if (before) before.next = entry.next;
    else this.#chains[chain] = entry.next;
    entry.next = undefined;
    this.#size -= 1;
    return true;
  }

  /** Each may be deleted when it is looked at. */
  forEach(look: (stream: ServerHttp2Stream, id: number) => void): void {
    for (const first of this.#chains) {
      for (let entry = first; entry; ) {
        const { id, stream, next } = entry;
        look(stream, id);
        entry = next;
      }
    }
  }
}

/**
 * Has a session that has no stream yet keep its streams in OpenStreams. They stand in a Map that node:http2 shows nobody; where
 * it is not found, as may be in another version of Node, all stays as it is (docs/adr/0009-streams-without-a-map.md).
 * @returns whether it was found
 */
export function keepStreamsApart(session: ServerHttp2Session): boolean {
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
