import type { Deadline, Waiter } from '../../deadline';
import type { LinkedList, ListNode } from '../../linked-list';
import { QueuedCall } from '../../telemetry/tracing';
import type { FetchAnswer, Pending } from './answer';

/** A fetch and who waits for it: in the queue, and then for the answer of a statement. */
export class QueuedFetch implements Waiter {
  readonly item: Pending;
  readonly deadline: Deadline;
  readonly queued: QueuedCall | undefined;
  readonly #queue: LinkedList<QueuedFetch>;
  /** In the queue; undefined when it has left. */
  #place: ListNode<QueuedFetch> | undefined;
  readonly #resolve: (answer: FetchAnswer) => void;
  readonly #reject: (error: unknown) => void;

  /** Queues it. @throws DeadlineExceededError, CancelledError */
  constructor(
    queue: LinkedList<QueuedFetch>,
    item: Pending,
    deadline: Deadline,
    end: { readonly answered: (answer: FetchAnswer) => void; readonly failed: (error: unknown) => void },
  ) {
    this.item = item;
    this.deadline = deadline;
    this.#queue = queue;
    this.#resolve = end.answered;
    this.#reject = end.failed;
    deadline.tell(this);
    this.queued = QueuedCall.begin();
    this.#place = queue.add(this);
  }

  /** It leaves the queue for a statement. */
  begins(): void {
    this.#leave();
  }

  /** Whether somebody still waits for it, by the clock too. Else it has failed. */
  isStillWaiting(): boolean {
    try {
      this.deadline.check();
      return true;
    } catch (error) {
      this.failed(error);
      return false;
    }
  }

  answered(): void {
    this.#ends();
    if (this.item.answer) this.#resolve(this.item.answer);
    else this.#reject(new Error('The claim gave no answer.'));
  }

  failed(error: unknown): void {
    this.#ends();
    this.#reject(error);
  }

  giveUp(error: unknown): void {
    this.failed(error);
  }

  #ends(): void {
    this.#leave();
    this.queued?.end();
  }

  #leave(): void {
    if (!this.#place) return;
    this.#queue.leave(this.#place);
    this.#place = undefined;
    this.deadline.forget(this);
  }
}
