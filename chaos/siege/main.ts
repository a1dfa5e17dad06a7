import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { parseArgs } from 'node:util';
import { developmentKey, issueToken } from '../../services/coin/identity/development-key';
import { type ServiceProcess, spawnMain } from '../../testkit/service-process';
import { User } from '../../testkit/user';

const USAGE = `Usage: npm run siege [-- --connections 10000]
  Holds idle connections to a live service of its own, and makes calls meanwhile. Exit code 1 when one of them is lost or
  costs too much, or a call fails. The service needs as many file descriptors (ulimit -n).`;

const PER_CHILD = 5000;
/** Addresses that one child needs, see crowd.ts. */
const ADDRESSES_PER_CHILD = PER_CHILD / 500;
const CALLS = 200;
/** What a connection may cost, in KiB of resident memory of the service. */
const MAX_KIB = 64;
const TIME_LIMIT_MS = 180_000;

interface Crowd {
  readonly child: ChildProcess;
  readonly lines: Interface;
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { connections: { type: 'string', default: '10000' } } });
  const connections = Number(values.connections);
  if (!Number.isSafeInteger(connections) || connections < 1) throw new Error(`A number is needed. ${USAGE}`);
  const findings: string[] = [];
  const dataDir = mkdtempSync(join(tmpdir(), 'aqm-siege-'));
  const service = await spawnMain(dataDir, { AQM_LOG_LEVEL: 'warn' });
  const crowds: Crowd[] = [];
  process.once('exit', () => {
    for (const { child } of [service, ...crowds]) child.kill('SIGKILL');
  });
  setTimeout(() => {
    say('FOUND it takes too long');
    process.exit(1);
  }, TIME_LIMIT_MS).unref();
  try {
    const id = randomUUID();
    const { privateKey } = developmentKey(dataDir);
    const token = await issueToken(privateKey, { userId: id, isAdmin: false, ttlSeconds: 3600, now: new Date() });
    const user = new User(service.address, id, token);
    await calls(user);
    const alone = residentMiB(service);
    const start = Date.now();
    for (let rest = connections; rest > 0; rest -= PER_CHILD) {
      crowds.push(openCrowd(service, Math.min(rest, PER_CHILD), 2 + crowds.length * ADDRESSES_PER_CHILD));
    }
    const held = (await Promise.all(crowds.map(next))).reduce((sum, count) => sum + count, 0);
    say(`${held} idle connections in ${Date.now() - start} ms`);
    if (held !== connections) findings.push(`${connections - held} connections could not be made`);
    const crowded = residentMiB(service);
    const kib = ((crowded - alone) * 1024) / connections;
    say(
      `memory of the service: ${alone.toFixed(0)} MiB, with them ${crowded.toFixed(0)} MiB: ${kib.toFixed(1)} KiB each`,
    );
    if (connections >= 1000 && kib > MAX_KIB) findings.push(`a connection costs ${kib.toFixed(1)} KiB`);
    say(`${CALLS} calls meanwhile, median ${(await calls(user)).toFixed(2)} ms`);
    const newcomer = new User(service.address, id, token);
    await newcomer.count();
    newcomer.close();
    user.close();
    for (const { child } of crowds) child.stdin?.end();
    const lost = (await Promise.all(crowds.map(next))).reduce((sum, count) => sum + count, 0);
    if (lost > 0) findings.push(`${lost} connections were lost`);
  } catch (error) {
    findings.push(String(error));
  } finally {
    for (const { child } of crowds) child.kill('SIGKILL');
    const code = await service.stop();
    if (code !== 0) findings.push(`the service ended with exit code ${code}`);
    rmSync(dataDir, { recursive: true, force: true });
  }
  for (const line of service.log().split('\n')) if (/"level":(50|60)/.test(line)) findings.push(`log: ${line}`);
  for (const finding of findings) say(`FOUND ${finding}`);
  say(findings.length === 0 ? 'every connection was held, every call answered' : 'NOT WITHSTOOD');
  return findings.length === 0 ? 0 : 1;
}

function openCrowd({ address }: ServiceProcess, count: number, firstAddress: number): Crowd {
  const args = [join(__dirname, 'crowd.js'), address.split(':')[1] ?? '', String(count), String(firstAddress)];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  return { child, lines: createInterface(child.stdout) };
}

/** The next number it says. */
async function next({ child, lines }: Crowd): Promise<number> {
  const said = once(lines, 'line') as Promise<[string]>;
  const ended = once(child, 'exit').then(() => Promise.reject(new Error('a crowd ended before its time')));
  const [line] = await Promise.race([said, ended]);
  return Number(line);
}

/** @returns the median time of a call, in milliseconds */
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

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error);
    process.exit(2);
  },
);
