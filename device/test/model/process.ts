import { type ChildProcess, fork } from 'node:child_process';
import { compiled } from '../../../testkit/root';
import type { ChildConfig } from '../../conformance/harness';
import type { Answer, Call } from './steps';
import type { ModelTask } from './worker';

/** The worker runs as built. */
const WORKER = compiled('device/test/model/worker');

type Told = Answer & { readonly number: number };

interface Asked {
  readonly answered: (answer: Answer) => void;
  readonly failed: (error: Error) => void;
}

/** Holds a handle in a process of its own. */
export class ModelProcess {
  readonly #child: ChildProcess = fork(WORKER, { serialization: 'advanced' });
  readonly #asked = new Map<number, Asked>();
  #last = 0;

  constructor() {
    this.#child.on('message', ({ number, ...answer }: Told) => {
      this.#asked.get(number)?.answered(answer);
      this.#asked.delete(number);
    });
    this.#child.on('exit', (code) => {
      for (const { failed } of this.#asked.values()) failed(new Error(`The process ended with code ${code}.`));
    });
  }

  async open(config: ChildConfig, nowMs: number): Promise<void> {
    await this.#done({ open: config, nowMs });
  }

  call(call: Call, nowMs: number): Promise<Answer> {
    return this.#ask({ call, nowMs });
  }

  async close(nowMs: number): Promise<void> {
    await this.#done({ close: true, nowMs });
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }

  async #done(task: Unnumbered): Promise<void> {
    const answer = await this.#ask(task);
    if ('failed' in answer) throw new Error(answer.failed);
  }

  #ask(task: Unnumbered): Promise<Answer> {
    this.#last += 1;
    const number = this.#last;
    return new Promise((answered, failed) => {
      this.#asked.set(number, { answered, failed });
      this.#child.send({ number, ...task });
    });
  }
}

type Unnumbered = ModelTask extends infer Task ? (Task extends ModelTask ? Omit<Task, 'number'> : never) : never;
