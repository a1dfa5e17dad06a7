import type { Deadline, Waiter } from '../../deadline';
import type { LinkedList, ListNode } from '../../linked-list';
import { QueuedCall } from '../../telemetry/tracing';
import type { FetchAnswer } from './answer';
import type { ClaimItem } from './claim-item';

/**
 * A fetch and its caller: first in a batch queue, then with a statement, until `resolve` or
 * `reject` answers it.
 */
export class QueuedFetch<Item = ClaimItem, Answer = FetchAnswer> implements Waiter {
  /** Position in the order of arrival. */
  readonly number: number;
  readonly item: Item;
  readonly deadline: Deadline;
  readonly answer: Promise<Answer>;
  /** The trace of the call; undefined if it is not traced. */
  readonly trace: QueuedCall | undefined;
  readonly #queue: LinkedList<QueuedFetch<Item, Answer>>;
  /** Undefined once the fetch has left the queue. */
  #node: ListNode<QueuedFetch<Item, Answer>> | undefined;
  #isSubscribed = true;
  #isSettled = false;
  #resolve!: (answer: Answer) => void;
  #reject!: (error: unknown) => void;

  /** Appends the fetch to the queue. @throws DeadlineExceededError, CancelledError */
  constructor(queue: LinkedList<QueuedFetch<Item, Answer>>, number: number, item: Item, deadline: Deadline) {
    this.number = number;
    this.item = item;
    this.deadline = deadline;
    this.#queue = queue;
    deadline.subscribe(this);
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.trace = QueuedCall.begin();
    this.#node = queue.add(this);
  }

  /** Removes the fetch from its queue for a statement. Safe to call again. */
  leaveQueue(): void {
    if (!this.#node) return;
    this.#queue.remove(this.#node);
    this.#node = undefined;
    this.#unsubscribe();
  }

  /** Lets the caller cancel the fetch again, while it waits for a statement of its own. */
  awaitStatement(): void {
    try {
      this.deadline.subscribe(this);
      this.#isSubscribed = true;
    } catch (error) {
      this.reject(error);
    }
  }

  /** Ends that wait. Returns false if the caller has given up meanwhile. */
  beginStatement(): boolean {
    this.#unsubscribe();
    return !this.#isSettled;
  }

  /** Returns true while the caller waits; also checks the clock. Rejects the fetch otherwise. */
  isStillWaiting(): boolean {
    try {
      this.deadline.check();
      return true;
    } catch (error) {
      this.reject(error);
      return false;
    }
  }

  resolve(answer: Answer): void {
    this.#end();
    this.#resolve(answer);
  }

  reject(error: unknown): void {
    this.#end();
    this.#reject(error);
  }

  /** Called by the deadline when the caller's time is over or the call was cancelled. */
  giveUp(error: unknown): void {
    this.reject(error);
  }

  #end(): void {
    this.#isSettled = true;
    this.leaveQueue();
    this.#unsubscribe();
    this.trace?.end();
  }

  #unsubscribe(): void {
    if (!this.#isSubscribed) return;
    this.#isSubscribed = false;
    this.deadline.unsubscribe(this);
  }
}
