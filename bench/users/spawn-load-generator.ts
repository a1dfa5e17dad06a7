import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { compiled } from '../../testkit/root';
import { treeCpuMs } from '../harness/processor';
import type { Load, LoadCommand, Targets } from './load-generator';

const PROGRAM = compiled('bench/users/load-generator');

/** Starts the load generator as a separate process and sends it commands. */
export class LoadGenerator {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  /** Rejects when the process exits. */
  readonly #ended: Promise<never>;
  readonly #kill = () => this.#child.kill('SIGKILL');

  constructor() {
    const child = spawn(process.execPath, [PROGRAM], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    this.#lines = createInterface(child.stdout);
    this.#ended = once(child, 'exit').then(() =>
      Promise.reject(new Error('the load generator process exited unexpectedly')),
    );
    // Not an unhandled rejection when no answer is awaited.
    this.#ended.catch(() => {});
    process.once('exit', this.#kill);
  }

  /** Connects one user per token. Users that are already connected stay. */
  async connect(address: string, tokens: readonly string[], targets: Targets): Promise<void> {
    await this.#send({ do: 'connect', port: Number(address.split(':')[1]), tokens, targets });
  }

  run(command: Exclude<LoadCommand, { do: 'connect' }>): Promise<Load> {
    return this.#send(command) as Promise<Load>;
  }

  async #send(command: LoadCommand): Promise<unknown> {
    const answer = once(this.#lines, 'line') as Promise<[string]>;
    this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
    const [line] = await Promise.race([answer, this.#ended]);
    return JSON.parse(line);
  }

  cpuMs(): number {
    return treeCpuMs(this.#child.pid ?? 0);
  }

  close(): void {
    process.off('exit', this.#kill);
    this.#kill();
  }
}
