import { randomInt, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { OutgoingHttpHeaders } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { developmentKey, issueToken } from '../../services/coin/identity/development-key';
import { type ServiceProcess, spawnMain } from '../../testkit/service-process';
import { mutatedEnvelope } from './headers';
import { mutated, pick, type Random, randomFrom } from './mutate';
import { anyRequest, type Request, validRequests } from './requests';
import { framed, type Reply, Wire } from './wire';

const USAGE = `Usage: npm run fuzz [-- --bytes 200000] [--messages 50000] [--seed N]

  Fuzzes a service that it starts itself: sends mutated request bytes, a third of them with mutated
  headers, deadlines or compression, then generated messages.
  Exit code 1: the service crashed, hung, answered INTERNAL or UNKNOWN, logged an unexpected error,
  or its memory grew. Exit code 2: the run could not start.

  --bytes     number of mutated requests (default 200000)
  --messages  number of generated messages (default 50000)
  --seed      repeats the inputs of a run (default random; printed at the start)`;

const CONNECTIONS = 8;
const AT_ONCE = 64;
const DAY_S = 86_400;

/** The codes with which the service may answer bad input. Any other answer is a finding. */
const ALLOWED: readonly Reply['status'][] = [
  status.OK,
  status.INVALID_ARGUMENT,
  status.FAILED_PRECONDITION,
  status.RESOURCE_EXHAUSTED,
  status.UNIMPLEMENTED,
  status.UNAVAILABLE,
];
/** Further answers to requests with mutated headers. */
const ALLOWED_WITH_HEADERS: readonly Reply['status'][] = [
  ...ALLOWED,
  status.UNAUTHENTICATED,
  status.DEADLINE_EXCEEDED,
  'REFUSED',
];
/** Limits that are counted but never reached. */
const WIDE_LIMITS = {
  AQM_LIMITS: 'on',
  AQM_LIMIT_PER_REQUESTER: '999999999',
  AQM_LIMIT_PER_PAIR: '999999999',
  AQM_LIMIT_PER_TARGET: '999999999',
  AQM_LIMIT_PER_UPLOADER: '999999999',
  AQM_LIMIT_PER_RECONCILER: '999999999',
  AQM_LIMIT_PER_CALLER: '999999999',
};
/** The maximum ratio of resident memory in the last quarter of a part of the run to the second quarter. */
const FLAT = 1.2;

/** The counts and findings of a run. */
interface RunResult {
  sent: number;
  readonly answers: Map<string, number>;
  readonly findings: string[];
  /** Resident memory of the service, sampled every 1,000 requests, for each part of the run. */
  readonly memoryMiB: number[][];
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      bytes: { type: 'string', default: '200000' },
      messages: { type: 'string', default: '50000' },
      seed: { type: 'string', default: String(randomInt(2 ** 31)) },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const [bytes, messages, seed] = [values.bytes, values.messages, values.seed].map(Number) as [number, number, number];
  if (![bytes, messages, seed].every(Number.isSafeInteger))
    throw new Error(`--bytes, --messages and --seed must be integers\n${USAGE}`);
  console.error(`seed ${seed}`);

  const dataDir = mkdtempSync(join(tmpdir(), 'aqm-fuzz-'));
  const service = await spawnMain(dataDir, { AQM_LOG_LEVEL: 'error', AQM_STOCK_LIMIT: '1000000', ...WIDE_LIMITS });
  const user = randomUUID();
  const { privateKey } = developmentKey(dataDir);
  const token = await issueToken(privateKey, { userId: user, isAdmin: true, ttlSeconds: DAY_S, now: new Date() });
  const wire = await Wire.open(service.address, token, CONNECTIONS);
  const result: RunResult = { sent: 0, answers: new Map(), findings: [], memoryMiB: [] };
  try {
    const random = randomFrom(seed);
    const valid = validRequests(user);
    await checkValid(wire, valid, result);
    await run(wire, service, bytes, () => mutation(valid, token, random), result);
    const generated = fc.sample(anyRequest(user), { numRuns: 1000, seed });
    await run(wire, service, messages, (n) => whole(next(generated, n, user, seed)), result);
    await checkValid(wire, validRequests(user), result);
  } finally {
    wire.close();
    const code = await service.stop();
    if (code !== 0) result.findings.push(`the service exited with code ${code}`);
    rmSync(dataDir, { recursive: true, force: true });
  }
  for (const line of new Set(service.log().split('\n'))) if (line !== '') result.findings.push(`log: ${line}`);
  return report(result);
}

interface Sent {
  readonly path: string;
  readonly body: Buffer;
  /** Headers that replace the usual ones; undefined if the usual ones are sent. */
  readonly headers?: OutgoingHttpHeaders;
}

/**
 * Returns a mutated message, mostly in a correct frame; one in five is mutated together with its frame. One in three is a
 * valid message with mutated headers.
 */
function mutation(valid: readonly Request[], token: string, random: Random): Sent {
  const { path, bytes } = pick(valid, random);
  if (random(3) === 0) {
    const at = random(20) === 0 ? mutated(Buffer.from(path), random, Buffer.from(path)).toString('latin1') : path;
    return { path: at, ...mutatedEnvelope(bytes, token, random) };
  }
  const other = pick(valid, random).bytes;
  if (random(5) === 0) return { path, body: mutated(framed(bytes), random, framed(other)) };
  return { path, body: framed(mutated(bytes, random, other)) };
}

function whole({ path, bytes }: Request): Sent {
  return { path, body: framed(bytes) };
}

/**
 * Returns the next generated message. They are generated a thousand at a time, because all at once would fill the
 * memory.
 */
function next(batch: Request[], n: number, user: string, seed: number): Request {
  const place = n % 1000;
  if (place === 0 && n > 0) batch.splice(0, 1000, ...fc.sample(anyRequest(user), { numRuns: 1000, seed: seed + n }));
  return batch[place] as Request;
}

/** Checks that valid requests are answered, whatever was sent before. */
async function checkValid(wire: Wire, requests: readonly Request[], result: RunResult): Promise<void> {
  for (const request of requests) {
    const reply = await wire.send(request.path, framed(request.bytes));
    if (reply.status !== status.OK) result.findings.push(`a valid ${request.path}: ${shown(reply)}`);
  }
}

async function run(
  wire: Wire,
  service: ServiceProcess,
  count: number,
  make: (n: number) => Sent,
  result: RunResult,
): Promise<void> {
  let started = 0;
  const memoryMiB: number[] = [];
  result.memoryMiB.push(memoryMiB);
  const worker = async (): Promise<void> => {
    while (started < count) {
      const n = started++;
      const { path, body, headers } = make(n);
      const reply = await wire.send(path, body, headers);
      const name = typeof reply.status === 'number' ? (status[reply.status] ?? String(reply.status)) : reply.status;
      result.answers.set(name, (result.answers.get(name) ?? 0) + 1);
      result.sent += 1;
      if (!isAllowed(path, headers, reply) && result.findings.length < 20) {
        const sent = `${JSON.stringify(headers ?? {})} ${body.subarray(0, 400).toString('hex')}`;
        result.findings.push(`${path} ${sent.slice(0, 1500)}: ${shown(reply)}`);
      }
      if (result.sent % 1000 === 0) memoryMiB.push(residentMiB(service));
      if (result.sent % 20_000 === 0) console.error(`${result.sent} requests, ${memoryMiB.at(-1)?.toFixed(0)} MiB`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

function isAllowed(path: string, headers: object | undefined, reply: Reply): boolean {
  if (reply.status === status.NOT_FOUND) return path.startsWith('/grpc.health.');
  return (headers ? ALLOWED_WITH_HEADERS : ALLOWED).includes(reply.status);
}

function residentMiB({ child }: ServiceProcess): number {
  const text = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(text)?.[1]) / 1024;
}

function shown({ status: code, message }: Reply): string {
  return `${typeof code === 'number' ? status[code] : code} ${message}`;
}

function report({ sent, answers, findings, memoryMiB }: RunResult): number {
  process.stdout.write(`${sent} requests\n`);
  for (const [name, count] of [...answers].sort(([, a], [, b]) => b - a)) {
    process.stdout.write(`  ${name.padEnd(22)}${String(count).padStart(10)}\n`);
  }
  for (const part of memoryMiB) {
    const quarter = Math.floor(part.length / 4);
    if (quarter < 5) continue;
    const before = median(part.slice(quarter, 2 * quarter));
    const after = median(part.slice(3 * quarter));
    process.stdout.write(`memory of the service: ${before.toFixed(0)} MiB early, ${after.toFixed(0)} MiB at the end\n`);
    if (after > before * FLAT)
      findings.push(`the memory of the service grew from ${before.toFixed(0)} to ${after.toFixed(0)} MiB`);
  }
  for (const finding of findings) process.stdout.write(`FOUND ${finding}\n`);
  process.stdout.write(findings.length === 0 ? 'no crash, no hang, no INTERNAL\n' : 'PROMISES BROKEN\n');
  return findings.length === 0 ? 0 : 1;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error);
    process.exit(2);
  },
);
