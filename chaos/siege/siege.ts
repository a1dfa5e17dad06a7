import { type ChildProcess, fork, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setInterval, setTimeout } from 'node:timers/promises';
import { developmentKey, issueToken } from '../../services/coin/identity/development-key';
import { freePorts } from '../../testkit/free-port';
import { ManagedPostgres } from '../service/managed-postgres';
import { ATTACKS, type AttackName } from './attacks';
import { type BoundedService, startBounded } from './bounded-service';
import { HonestUsers } from './honest-users';
import { whileMeasured } from './processor-use';
import { type Accepted, describe, judge, type Measured } from './report';

/** Calls before the first measurement, in milliseconds: the code is compiled, the connections are open. */
const WARM_UP_MS = 3000;
/** The attack has begun, and fills what it can fill, after this time. */
const BEGIN_MS = 500;
/** The longest time from the measurement until an operator can see the attack, in milliseconds. */
const VISIBLE_MS = 30_000;
const POLL_MS = 250;

/** A PostgreSQL for services that are attacked, one after the other. */
export class Siege {
  readonly #folder: string;
  readonly #postgres: ManagedPostgres;

  private constructor(folder: string, postgres: ManagedPostgres) {
    this.#folder = folder;
    this.#postgres = postgres;
  }

  static async begin(): Promise<Siege> {
    const folder = mkdtempSync(join(tmpdir(), 'aqm-siege-'));
    return new Siege(folder, await ManagedPostgres.start(join(folder, 'postgres')));
  }

  async end(): Promise<void> {
    await this.#postgres.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /**
   * Attacks a new service, and measures honest calls before, during and after, and beside a process that uses the
   * processor as the attacker did and sends nothing.
   * @param ms duration of the attack, of both rests together, and of that rest beside a load, in milliseconds
   * @returns what was wrong
   */
  async withstand(name: AttackName, ms: number, accepted: Accepted): Promise<string[]> {
    const [port = 0] = await freePorts(1);
    const service = await startBounded({
      AQM_DATA_DIR: join(this.#folder, 'data'),
      DATABASE_URL: this.#postgres.url,
      AQM_LOG_LEVEL: 'warn',
      OTEL_METRICS_EXPORTER: 'prometheus',
      OTEL_EXPORTER_PROMETHEUS_HOST: '127.0.0.1',
      OTEL_EXPORTER_PROMETHEUS_PORT: String(port),
    });
    const findings: string[] = [];
    const watch = new AbortController();
    const memory = peakMemory(service, watch.signal);
    try {
      const issue = (userId: string) => this.#token(userId);
      const honest = await HonestUsers.arrive(service.address, issue);
      const during = (time: number) => whileMeasured(service.child.pid, () => honest.call(time));
      await honest.call(WARM_UP_MS);
      const before = await during(ms / 2);
      const [metrics, logged] = [await scrape(port), service.log().length];
      const attacker = await this.#attack(name, service.address);
      await setTimeout(BEGIN_MS);
      const standIn = await StandIn.observe(attacker.pid);
      const { result: attack, busy } = await whileMeasured(attacker.pid, () => during(ms));
      await standIn.endRecord();
      // The attack goes on until an operator sees it.
      const { metric, log } = ATTACKS[name];
      if (!(await comesTrue(() => hasGrown(port, metric, metrics)))) findings.push('no metric shows the attack');
      if (log && !(await comesTrue(async () => log.test(service.log().slice(logged))))) {
        findings.push('no line of the log shows the attack');
      }
      if (attacker.exitCode !== null) findings.push('the attacker ended by itself');
      attacker.kill('SIGKILL');
      standIn.replay();
      const loaded = await whileMeasured(standIn.pid, () => honest.call(ms));
      standIn.end();
      const after = await honest.call(ms / 2);
      honest.leave();
      watch.abort();
      const measured: Measured = {
        rest: { calls: [before.result, after], service: before.busy },
        attack: { calls: attack.result, service: attack.busy, attacker: busy },
        loaded: { calls: loaded.result, standIn: loaded.busy },
      };
      print(describe(name, measured));
      print(`${' '.repeat(11)}the service used at most ${(await memory).toFixed(0)} MiB in ${service.bound}`);
      findings.push(...judge(measured, accepted));
    } catch (error) {
      findings.push(String(error));
    } finally {
      watch.abort();
      const { exitCode, signalCode } = service.child;
      if (exitCode !== null || signalCode !== null) findings.push(`the service ended (${exitCode ?? signalCode})`);
      else if ((await service.stop()) !== 0) findings.push('the service did not stop in order');
    }
    return findings.map((finding) => `${name}: ${finding}`);
  }

  async #attack(name: AttackName, address: string) {
    const args = [join(__dirname, 'attacker.js'), name, address, await this.#token(randomUUID())];
    const attacker = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    killAtExit(attacker);
    await once(attacker.stdout, 'data');
    return attacker;
  }

  #token(userId: string): Promise<string> {
    const { privateKey } = developmentKey(join(this.#folder, 'data'));
    return issueToken(privateKey, { userId, isAdmin: false, ttlSeconds: 36_000, now: new Date() });
  }
}

/** A process that takes as much processor time as the attacker did; see stand-in.ts. */
class StandIn {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Starts one that records how much another process uses. */
  static async observe(pid: number | undefined): Promise<StandIn> {
    const child = fork(join(__dirname, 'stand-in.js'), [String(pid)]);
    killAtExit(child);
    await once(child, 'message');
    return new StandIn(child);
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  async endRecord(): Promise<void> {
    this.#child.send('end');
    await once(this.#child, 'message');
  }

  /** Begins to use as much as was recorded. */
  replay(): void {
    this.#child.send('replay');
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }
}

/** Leaves no process behind if this one ends first. */
function killAtExit(child: ChildProcess): void {
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  child.once('exit', () => process.off('exit', kill));
}

async function peakMemory(service: BoundedService, signal: AbortSignal): Promise<number> {
  let peak = 0;
  try {
    for await (const _ of setInterval(100, undefined, { signal })) peak = Math.max(peak, service.residentMiB());
  } catch {
    // The signal has ended it.
  }
  return peak;
}

/** Returns the values of all counters, by name and labels. */
async function scrape(port: number): Promise<Map<string, number>> {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`, { signal: AbortSignal.timeout(30_000) });
  const samples = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    samples.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

async function hasGrown(port: number, metric: RegExp, before: ReadonlyMap<string, number>): Promise<boolean> {
  return [...(await scrape(port))].some(([name, value]) => metric.test(name) && value > (before.get(name) ?? 0));
}

async function comesTrue(check: () => Promise<boolean>): Promise<boolean> {
  for (let waited = 0; waited <= VISIBLE_MS; waited += POLL_MS) {
    if (await check()) return true;
    await setTimeout(POLL_MS);
  }
  return false;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
