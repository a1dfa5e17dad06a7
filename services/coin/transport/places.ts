import { LinkedList, type ListNode } from '../linked-list';

/** A client: all connections from one IPv4 address, or from one /64 network of IPv6. */
interface Client {
  readonly network: string;
  /** Number of its connections. */
  connections: number;
  /** Number of places that its connections hold. */
  taken: number;
}

/** The places that one connection holds. */
export interface Holder<Call> {
  readonly client: Client;
  /** The calls in its places, the oldest first. */
  readonly calls: LinkedList<Call>;
  /** Index in the list of holders; -1 while the connection holds no place. */
  index: number;
}

export interface PlacesOptions<Call> {
  /** Number of places. */
  readonly max: number;
  /**
   * True: every new call gets a place, at the cost of the client that holds the most. False: only
   * if that client holds more than the one of the new call.
   */
  readonly isAlwaysOpen: boolean;
  /** Returns true if a call may be ended to make room: no work of the server would be lost. */
  readonly mayEnd: (call: Call) => boolean;
  /** Ends a call. Must release its place before it returns. */
  readonly end: (call: Call) => void;
}

/**
 * Shares a fixed number of places for open calls among all clients. While there are free ones, every
 * call gets one. When all are taken, the oldest call that may be ended makes room for a new one. It
 * is taken from the client that holds the most places, and of its connections from the one that
 * holds the most (docs/adr/0022-places-for-calls.md).
 */
export class Places<Call> {
  readonly #options: PlacesOptions<Call>;
  /**
   * Connections that hold places, in no order. An array whose length changes little retains no
   * closed connection, unlike a Map; see linked-list.ts.
   */
  readonly #holders: Holder<Call>[] = [];
  /** Clients with connections that have asked for a place. */
  readonly #clients = new Map<string, Client>();
  #taken = 0;

  constructor(options: PlacesOptions<Call>) {
    this.#options = options;
  }

  get taken(): number {
    return this.#taken;
  }

  /** Connections that hold places. Must not change while it is iterated. */
  get holders(): readonly Holder<Call>[] {
    return this.#holders;
  }

  /** Adds a connection of a network (networkOf in listener.ts). */
  join(network: string): Holder<Call> {
    let client = this.#clients.get(network);
    if (!client) {
      client = { network, connections: 0, taken: 0 };
      this.#clients.set(network, client);
    }
    client.connections += 1;
    return { client, calls: new LinkedList(), index: -1 };
  }

  /** Removes a connection that was closed. Its calls release their places by themselves. */
  leave({ client }: Holder<Call>): void {
    client.connections -= 1;
    if (client.connections === 0) this.#clients.delete(client.network);
  }

  /** Takes a place. Returns the node by which it is released, or undefined if there is no room. */
  take(holder: Holder<Call>, call: Call): ListNode<Call> | undefined {
    if (this.#taken >= this.#options.max && !this.#makeRoom(holder)) return undefined;
    if (holder.index < 0) holder.index = this.#holders.push(holder) - 1;
    holder.client.taken += 1;
    this.#taken += 1;
    return holder.calls.add(call);
  }

  /** Releases a place. Must be called once for each. */
  release(holder: Holder<Call>, node: ListNode<Call>): void {
    holder.calls.remove(node);
    holder.client.taken -= 1;
    this.#taken -= 1;
    if (holder.calls.size > 0) return;
    const last = this.#holders.pop();
    if (last && last !== holder) {
      this.#holders[holder.index] = last;
      last.index = holder.index;
    }
    holder.index = -1;
  }

  /** Returns the network that holds the most places, and how many; undefined if none are taken. */
  largest(): { readonly network: string; readonly taken: number } | undefined {
    let largest: Client | undefined;
    for (const { client } of this.#holders) if (!largest || client.taken > largest.taken) largest = client;
    return largest && { network: largest.network, taken: largest.taken };
  }

  /**
   * Ends one call. Visits each connection that holds places, at most `max` of them, and each call
   * that must not be ended, at most as many as the service processes at the same time.
   */
  #makeRoom(newcomer: Holder<Call>): boolean {
    const { isAlwaysOpen, mayEnd, end } = this.#options;
    let payer: Holder<Call> | undefined;
    let victim: Call | undefined;
    for (const holder of this.#holders) {
      if (payer && !holdsMore(holder, payer)) continue;
      const call = first(holder.calls, mayEnd);
      if (call !== undefined) [payer, victim] = [holder, call];
    }
    if (!payer || victim === undefined || !(isAlwaysOpen || isWorthEnding(payer, newcomer))) return false;
    end(victim);
    return true;
  }
}

function holdsMore(a: Holder<unknown>, b: Holder<unknown>): boolean {
  return a.client.taken === b.client.taken ? a.calls.size > b.calls.size : a.client.taken > b.client.taken;
}

/** Returns true if the shares are more equal after a call of `payer` has made room for one of `newcomer`. */
function isWorthEnding(payer: Holder<unknown>, newcomer: Holder<unknown>): boolean {
  return payer.client === newcomer.client
    ? payer.calls.size > newcomer.calls.size + 1
    : payer.client.taken > newcomer.client.taken + 1;
}

function first<T>(items: Iterable<T>, accepts: (item: T) => boolean): T | undefined {
  for (const item of items) if (accepts(item)) return item;
  return undefined;
}
