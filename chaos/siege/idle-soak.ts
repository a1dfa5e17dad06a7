import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { developmentKey, issueToken } from '../../services/coin/identity/development-key';
import { type ServiceProcess, spawnMain } from '../../testkit/service-process';
import { User } from '../../testkit/user';

const PER_CHILD = 5000;
/** The number of addresses that one child process needs; see idle-connections.ts. */
const ADDRESSES_PER_CHILD = PER_CHILD / 500;
const CALLS = 200;
/** The maximum cost of a connection, in KiB of resident memory of the service. */
const MAX_KIB = 64;
const TIME_LIMIT_MS = 180_000;

/** A child process with idle connections. */
interface IdleConnections {
  readonly child: ChildProcess;
  readonly lines: Interface;
}

/**
 * Soak test of connections: holds many idle connections to a service that it starts, and makes calls at the same time.
 * @returns what was wrong: a connection was lost or takes more than 64 KiB, or a call failed
 */
export async function soakIdle(connections: number): Promise<string[]> {
  const findings: string[] = [];
  const dataDir = mkdtempSync(join(tmpdir(), 'aqm-siege-'));
  const service = await spawnMain(dataDir, { AQM_LOG_LEVEL: 'warn' });
  const children: IdleConnections[] = [];
  process.once('exit', () => {
    for (const { child } of [service, ...children]) child.kill('SIGKILL');
  });
  const late = setTimeout(() => {
    print(`FOUND the run took longer than ${TIME_LIMIT_MS / 1000} s`);
    process.exit(1);
  }, TIME_LIMIT_MS);
  try {
    const id = randomUUID();
    const { privateKey } = developmentKey(dataDir);
    const token = await issueToken(privateKey, { userId: id, isAdmin: false, ttlSeconds: 3600, now: new Date() });
    const user = new User(service.address, id, token);
    await calls(user);
    const alone = residentMiB(service);
    const start = Date.now();
    for (let rest = connections; rest > 0; rest -= PER_CHILD) {
      children.push(openIdleConnections(service, Math.min(rest, PER_CHILD), 2 + children.length * ADDRESSES_PER_CHILD));
    }
    const held = (await Promise.all(children.map(next))).reduce((sum, count) => sum + count, 0);
    print(`${held} idle connections in ${Date.now() - start} ms`);
    if (held !== connections) findings.push(`${connections - held} connections could not be opened`);
    const loaded = residentMiB(service);
    const kib = ((loaded - alone) * 1024) / connections;
    print(
      `memory of the service: ${alone.toFixed(0)} MiB alone, ${loaded.toFixed(0)} MiB with them: ${kib.toFixed(1)} KiB per connection`,
    );
    if (connections >= 1000 && kib > MAX_KIB) findings.push(`a connection costs ${kib.toFixed(1)} KiB`);
    print(`${CALLS} calls at the same time, median ${(await calls(user)).toFixed(2)} ms`);
    const newUser = new User(service.address, id, token);
    await newUser.count();
    newUser.close();
    user.close();
    for (const { child } of children) child.stdin?.end();
    const lost = (await Promise.all(children.map(next))).reduce((sum, count) => sum + count, 0);
    if (lost > 0) findings.push(`${lost} connections were lost`);
  } catch (error) {
    findings.push(String(error));
  } finally {
    clearTimeout(late);
    for (const { child } of children) child.kill('SIGKILL');
    const code = await service.stop();
    if (code !== 0) findings.push(`the service exited with code ${code}`);
    rmSync(dataDir, { recursive: true, force: true });
  }
  for (const line of service.log().split('\n')) if (/"level":(50|60)/.test(line)) findings.push(`log: ${line}`);
  return findings;
}

function openIdleConnections({ address }: ServiceProcess, count: number, firstAddress: number): IdleConnections {
  const args = [
    join(__dirname, 'idle-connections.js'),
    address.split(':')[1] ?? '',
    String(count),
    String(firstAddress),
  ];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  return { child, lines: createInterface(child.stdout) };
}

/** Reads the next number that the child prints. */
async function next({ child, lines }: IdleConnections): Promise<number> {
  const output = once(lines, 'line') as Promise<[string]>;
  const ended = once(child, 'exit').then(() => Promise.reject(new Error('a child process exited unexpectedly')));
  const [line] = await Promise.race([output, ended]);
  return Number(line);
}

/** Makes calls. @returns their median duration, in milliseconds */
async function calls(user: User): Promise<number> {
  const times: number[] = [];
  for (let call = 0; call < CALLS; call++) {
    const start = process.hrtime.bigint();
    await user.count();
    times.push(Number(process.hrtime.bigint() - start) / 1e6);
  }
  return times.sort((a, b) => a - b)[CALLS / 2] ?? 0;
}

function residentMiB({ child }: ServiceProcess): number {
  const text = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(text)?.[1]) / 1024;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
