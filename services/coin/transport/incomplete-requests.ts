import { OverloadedError } from '../errors';
import { LinkedList, type ListNode } from '../linked-list';
import { toStatus } from '../rpc/status';
import { type EndedCall, endCall } from './end-call';

/**
 * Maximum size of all incomplete requests together, in bytes. A single request has at most 1 MiB.
 * Beyond this, the largest request of the connection that holds the most is refused, so that one
 * peer cannot get the requests of others refused.
 */
const MAX_INCOMPLETE_BYTES = 64 * 1024 * 1024;

const OVERLOADED = toStatus(new OverloadedError());

/** The incomplete requests of one connection. */
export class Receiving {
  /** Their total size. */
  bytes = 0;
  readonly calls = new LinkedList<ReceivedCall>();
  /** Position in the list of connections with incomplete requests; undefined if it has none. */
  node: ListNode<Receiving> | undefined;
}

/** A call whose request may be incomplete. */
export interface ReceivedCall extends EndedCall {
  readonly receiving: Receiving;
  /** Number of request bytes received; 0 once the request is complete. */
  bytes: number;
  /** Position in the list of its connection's incomplete requests. */
  receivingNode: ListNode<ReceivedCall> | undefined;
}

/** Bounds the memory of all incomplete requests of all connections together. */
export class IncompleteRequests {
  /** Connections with incomplete requests. */
  readonly #receiving = new LinkedList<Receiving>();
  /** Total size of all incomplete requests. */
  #bytes = 0;

  /**
   * Counts received bytes of an incomplete request, and refuses requests while all together are too
   * large.
   */
  hold(call: ReceivedCall, bytes: number): void {
    if (call.stream.closed) return;
    const { receiving } = call;
    call.bytes += bytes;
    call.receivingNode ??= receiving.calls.add(call);
    receiving.bytes += bytes;
    receiving.node ??= this.#receiving.add(receiving);
    this.#bytes += bytes;
    while (this.#bytes > MAX_INCOMPLETE_BYTES) this.#refuseLargest();
  }

  /** Stops counting a request: it is complete or its call has ended. */
  release(call: ReceivedCall): void {
    const { receiving, bytes, receivingNode } = call;
    if (!receivingNode) return;
    receiving.calls.remove(receivingNode);
    call.receivingNode = undefined;
    call.bytes = 0;
    receiving.bytes -= bytes;
    this.#bytes -= bytes;
    if (receiving.calls.size > 0 || !receiving.node) return;
    this.#receiving.remove(receiving.node);
    receiving.node = undefined;
  }

  #refuseLargest(): void {
    const { calls } = largest(this.#receiving, ({ bytes }) => bytes);
    const call = largest(calls, ({ bytes }) => bytes);
    this.release(call);
    endCall(call, OVERLOADED);
  }
}

function largest<T>(items: Iterable<T>, sizeOf: (item: T) => number): T {
  return [...items].reduce((best, item) => (sizeOf(item) > sizeOf(best) ? item : best));
}
