import type { Deadline, Waiter } from '../deadline';
import type { Place, Queue } from '../queue';
import { QueuedCall } from '../telemetry/tracing';
import type { Pending } from './answer-fetches';

/** A fetch and who waits for it: in the queue, and then for the answer of a statement. */
export class QueuedFetch implements Waiter {
  readonly item: Pending;
  readonly deadline: Deadline;
  readonly queued: QueuedCall | undefined;
  readonly #queue: Queue<QueuedFetch>;
  /** In the queue; undefined when it has left. */
  #place: Place<QueuedFetch> | undefined;
  readonly #resolve: () => void;
  readonly #reject: (error: unknown) => void;

  /** Queues it. @throws DeadlineExceededError, CancelledError */
  constructor(
    queue: Queue<QueuedFetch>,
    item: Pending,
    deadline: Deadline,
    end: Pick<QueuedFetch, 'answered' | 'failed'>,
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

  /** It leaves the queue for a statement. @returns whether somebody still waits for it; by the clock too */
  begins(): boolean {
    this.#leave();
    return this.isStillWaiting();
  }

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
    this.#resolve();
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
