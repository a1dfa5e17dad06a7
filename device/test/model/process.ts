import { type ChildProcess, fork } from 'node:child_process';
import { compiled } from '../../../testkit/root';
import type { ChildConfig } from '../../conformance/harness';
import type { Answer, Call } from './steps';
import type { ModelTask } from './worker';

/** The compiled worker, also when the tests run from the sources. */
const WORKER = compiled('device/test/model/worker');

/** A message of the worker: the answer to the task of that number. */
type Reply = Answer & { readonly number: number };

interface Pending {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

/** Holds a handle on a storage in a process of its own. */
export class ModelProcess {
  readonly #child: ChildProcess = fork(WORKER, { serialization: 'advanced' });
  readonly #pending = new Map<number, Pending>();
  #last = 0;

  constructor() {
    this.#child.on('message', ({ number, ...answer }: Reply) => {
      this.#pending.get(number)?.resolve(answer);
      this.#pending.delete(number);
    });
    this.#child.on('exit', (code) => {
      for (const { reject } of this.#pending.values()) reject(new Error(`The process ended with code ${code}.`));
    });
  }

  async open(config: ChildConfig, nowMs: number): Promise<void> {
    await this.#done({ open: config, nowMs });
  }

  call(call: Call, nowMs: number): Promise<Answer> {
    return this.#send({ call, nowMs });
  }

  async close(nowMs: number): Promise<void> {
    await this.#done({ close: true, nowMs });
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }

  async #done(task: Unnumbered): Promise<void> {
    const answer = await this.#send(task);
    if ('failed' in answer) throw new Error(answer.failed);
  }

  #send(task: Unnumbered): Promise<Answer> {
    this.#last += 1;
    const number = this.#last;
    return new Promise((resolve, reject) => {
      this.#pending.set(number, { resolve, reject });
      this.#child.send({ number, ...task });
    });
  }
}

type Unnumbered = ModelTask extends infer Task ? (Task extends ModelTask ? Omit<Task, 'number'> : never) : never;
