import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const AQM = join(__dirname, '../services/coin/aqm.js');
/** The service promises to accept calls within 60 s of a first start. In milliseconds. */
const START_TIMEOUT_MS = 60_000;
/** Longer than the service may take to finish its calls, in milliseconds. */
const STOP_TIMEOUT_MS = 40_000;
const LOG_LINES = 30;

/** Runs the coin service in a process of its own. */
export class CoinServiceProcess {
  readonly #child: ChildProcess;
  readonly #env: NodeJS.ProcessEnv;
  readonly #dataFolder: string;
  readonly #log: string[] = [];
  readonly #address: Promise<string>;
  readonly #exited: Promise<number | null>;

  /**
   * Starts the service, which writes only below `dataFolder`. It uses the PostgreSQL of DATABASE_URL in the environment, or
   * starts its own.
   */
  constructor(dataFolder: string) {
    this.#dataFolder = dataFolder;
    // Tokens of the demo are signed with the development key, which is used only while no other key is configured. The name of
    // the demo in traces is not that of the service.
    const { AQM_TOKEN_PUBLIC_KEY_FILE: _, OTEL_SERVICE_NAME: _name, ...env } = process.env;
    this.#env = { ...env, AQM_LISTEN: '127.0.0.1:0', AQM_DATA_DIR: dataFolder };
    // In its own process group: Ctrl-C in the terminal reaches only the demo, which then stops the service in order.
    this.#child = spawn(process.execPath, [AQM, 'serve'], {
      env: this.#env,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.#exited = once(this.#child, 'exit').then(([code]) => (typeof code === 'number' ? code : null));
    this.#address = this.#readAddress();
    // address() reports the failure; without a caller of it the process must not crash.
    this.#address.catch(() => {});
    if (this.#child.stderr) createInterface(this.#child.stderr).on('line', (line) => this.#remember(line));
    // The last resort if the demo itself crashes.
    process.once('exit', this.#kill);
  }

  /** Resolves when the service accepts calls. */
  address(): Promise<string> {
    return this.#address;
  }

  /** Returns the last lines of its log. */
  logTail(): readonly string[] {
    return this.#log;
  }

  /** Creates bearer tokens for these users, signed with the development key in the service's data folder. */
  async tokensFor(userIds: readonly string[]): Promise<string[]> {
    const args = [AQM, 'token', ...userIds.flatMap((userId) => ['--user', userId])];
    const { stdout } = await promisify(execFile)(process.execPath, args, { env: this.#env });
    return stdout.trim().split('\n');
  }

  /** Stops the service after its calls. @returns its exit code; null if it had to be killed */
  async stop(): Promise<number | null> {
    if (this.#isRunning()) this.#child.kill('SIGTERM');
    const timer = setTimeout(this.#kill, STOP_TIMEOUT_MS);
    try {
      const code = await this.#exited;
      if (code !== 0) this.#kill();
      return code;
    } finally {
      clearTimeout(timer);
      process.off('exit', this.#kill);
    }
  }

  #isRunning(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Kills the service and the PostgreSQL that it started, which would outlive it. Their data is deleted anyway. */
  readonly #kill = (): void => {
    if (this.#isRunning()) this.#child.kill('SIGKILL');
    for (const file of globSync('**/postmaster.pid', { cwd: this.#dataFolder })) {
      try {
        const pid = Number.parseInt(readFileSync(join(this.#dataFolder, file), 'utf8'), 10);
        if (pid > 1) process.kill(pid, 'SIGQUIT');
      } catch {
        // It has ended meanwhile.
      }
    }
  };

  #remember(line: string): void {
    this.#log.push(line);
    if (this.#log.length > LOG_LINES) this.#log.shift();
  }

  async #readAddress(): Promise<string> {
    const { stdout } = this.#child;
    if (!stdout) throw new Error('the coin service has no standard output');
    const ready = new Promise<string>((resolve) => {
      createInterface(stdout).on('line', (line) => {
        const address = readyAddress(line);
        if (address) resolve(address);
      });
    });
    const gone = this.#exited.then((code) => {
      throw new Error(`the coin service ended before it was ready, with exit code ${code}`);
    });
    const timeout = AbortSignal.timeout(START_TIMEOUT_MS);
    const late = once(timeout, 'abort').then(() => {
      throw new Error(`the coin service was not ready within ${START_TIMEOUT_MS / 1000} s`);
    });
    return Promise.race([ready, gone, late]);
  }
}

/** Returns the address in the line that the service prints when it accepts calls; null for any other line. */
function readyAddress(line: string): string | null {
  try {
    const { msg, address }: { msg?: unknown; address?: unknown } = JSON.parse(line);
    return msg === 'ready' && typeof address === 'string' ? address : null;
  } catch {
    return null;
  }
}
