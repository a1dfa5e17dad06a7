import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { compiled } from '../../testkit/root';
import { treeCpuMs } from '../harness/processor';
import type { Load, LoadCommand, Targets } from './load-generator';

const PROGRAM = compiled('bench/users/load-generator');

/** A crowd in a process of its own. */
export class LoadGenerator {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  /** Rejects. */
  readonly #ended: Promise<never>;
  readonly #kill = () => this.#child.kill('SIGKILL');

  constructor() {
    const child = spawn(process.execPath, [PROGRAM], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    this.#lines = createInterface(child.stdout);
    this.#ended = once(child, 'exit').then(() => Promise.reject(new Error('the generator ended before its time')));
    // Also where nobody waits for an answer.
    this.#ended.catch(() => {});
    process.once('exit', this.#kill);
  }

  /** Users of these tokens, one connection each; those that it has already stay. */
  async connect(address: string, tokens: readonly string[], targets: Targets): Promise<void> {
    await this.#send({ do: 'connect', port: Number(address.split(':')[1]), tokens, targets });
  }

  run(command: Exclude<LoadCommand, { do: 'connect' }>): Promise<Load> {
    return this.#send(command) as Promise<Load>;
  }

  async #send(command: LoadCommand): Promise<unknown> {
    const said = once(this.#lines, 'line') as Promise<[string]>;
    this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
    const [line] = await Promise.race([said, this.#ended]);
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
