import { randomInt, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import type { OutgoingHttpHeaders } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { developmentKey, issueToken } from '../../services/coin/identity/development-key';
import { brokenCopy, DIST } from '../../testkit/broken-copy';
import { type ServiceProcess, spawnProgram } from '../../testkit/service-process';
import { mutatedEnvelope } from './headers';
import { LEAK } from './leak';
import { collectedMemory, leakIn, logLines, MEASURED, type Memory } from './memory';
import { mutated, pick, type Random, randomFrom } from './mutate';
import { anyRequest, type Request, validRequests } from './requests';
import { framed, type Reply, Wire } from './wire';

const USAGE = `Usage: npm run fuzz [-- --bytes 200000] [--messages 50000] [--seed N] [--leak]

  Fuzzes a service that it starts itself: sends mutated request bytes, a third of them with mutated
  headers, deadlines or compression, then generated messages.
  Exit code 1: the service crashed, hung, answered INTERNAL or UNKNOWN, logged an unexpected error,
  or has a memory leak. Exit code 2: the run could not start.

  Memory is measured after a forced garbage collection, ten times in each of the two parts of the
  run. The first two tenths are the warm-up.

  --bytes     number of mutated requests (default 200000)
  --messages  number of generated messages (default 50000)
  --seed      repeats the inputs of a run (default random; printed at the start)
  --leak      makes a copy of the compiled service that keeps the headers of every call; the run must fail`;

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
/** The number of equal segments of each part of the run, after each of which memory is measured. */
const SEGMENTS = 10;
/** The segments whose memory is not judged, because code is compiled and connections are opened. */
const WARM_UP = 2;

/** The counts and findings of a run. */
interface RunResult {
  sent: number;
  readonly answers: Map<string, number>;
  readonly findings: string[];
  /** The memory of the service after each segment, for each part of the run. */
  readonly memory: Memory[][];
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      bytes: { type: 'string', default: '200000' },
      messages: { type: 'string', default: '50000' },
      seed: { type: 'string', default: String(randomInt(2 ** 31)) },
      leak: { type: 'boolean', default: false },
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
  const copy = values.leak ? brokenCopy([LEAK]) : undefined;
  const program = join(copy?.dist ?? DIST, 'services/coin/aqm.js');
  const env = { ...MEASURED, AQM_LOG_LEVEL: 'error', AQM_STOCK_LIMIT: '1000000', ...WIDE_LIMITS };
  const service = await spawnProgram(program, dataDir, env, ['serve']);
  const user = randomUUID();
  const { privateKey } = developmentKey(dataDir);
  const token = await issueToken(privateKey, { userId: user, isAdmin: true, ttlSeconds: DAY_S, now: new Date() });
  const wire = await Wire.open(service.address, token, CONNECTIONS);
  const result: RunResult = { sent: 0, answers: new Map(), findings: [], memory: [] };
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
    copy?.remove();
  }
  for (const line of new Set(logLines(service))) result.findings.push(`log: ${line}`);
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

/** Sends one part of the run, in segments, and measures the memory of the service after each. */
async function run(
  wire: Wire,
  service: ServiceProcess,
  count: number,
  make: (n: number) => Sent,
  result: RunResult,
): Promise<void> {
  const memory: Memory[] = [];
  result.memory.push(memory);
  let started = 0;
  const worker = async (end: number): Promise<void> => {
    while (started < end) {
      const { path, body, headers } = make(started++);
      const reply = await wire.send(path, body, headers);
      const name = typeof reply.status === 'number' ? (status[reply.status] ?? String(reply.status)) : reply.status;
      result.answers.set(name, (result.answers.get(name) ?? 0) + 1);
      result.sent += 1;
      if (!isAllowed(path, headers, reply) && result.findings.length < 20) {
        const sent = `${JSON.stringify(headers ?? {})} ${body.subarray(0, 400).toString('hex')}`;
        result.findings.push(`${path} ${sent.slice(0, 1500)}: ${shown(reply)}`);
      }
    }
  };
  for (let segment = 1; segment <= SEGMENTS; segment += 1) {
    const end = Math.round((segment * count) / SEGMENTS);
    await Promise.all(Array.from({ length: AT_ONCE }, () => worker(end)));
    const measured = await collectedMemory(service);
    if (!measured) return;
    memory.push(measured);
    console.error(`${result.sent} requests, ${shownMemory(measured)}`);
  }
}

function isAllowed(path: string, headers: object | undefined, reply: Reply): boolean {
  if (reply.status === status.NOT_FOUND) return path.startsWith('/grpc.health.');
  return (headers ? ALLOWED_WITH_HEADERS : ALLOWED).includes(reply.status);
}

function shown({ status: code, message }: Reply): string {
  return `${typeof code === 'number' ? status[code] : code} ${message}`;
}

function shownMemory({ retained, resident, peak }: Memory): string {
  return `${retained.toFixed(1)} MiB retained, ${resident.toFixed(0)} MiB resident (peak ${peak.toFixed(0)})`;
}

function report({ sent, answers, findings, memory }: RunResult): number {
  process.stdout.write(`${sent} requests\n`);
  for (const [name, count] of [...answers].sort(([, a], [, b]) => b - a)) {
    process.stdout.write(`  ${name.padEnd(22)}${String(count).padStart(10)}\n`);
  }
  for (const [index, part] of memory.entries()) {
    const [warm, end] = [part[WARM_UP - 1], part[SEGMENTS - 1]];
    if (!warm || !end) {
      findings.push('the service ended before its memory was measured');
      continue;
    }
    process.stdout.write(`memory during the ${index === 0 ? 'mutated requests' : 'generated messages'}:\n`);
    process.stdout.write(`  after the warm-up: ${shownMemory(warm)}\n  at the end:        ${shownMemory(end)}\n`);
    const leak = leakIn(part.slice(WARM_UP - 1));
    if (leak !== undefined) findings.push(`a memory leak: ${leak}`);
  }
  for (const finding of findings) process.stdout.write(`FOUND ${finding}\n`);
  process.stdout.write(
    findings.length === 0 ? 'no crash, no hang, no INTERNAL, no memory leak\n' : 'PROMISES BROKEN\n',
  );
  return findings.length === 0 ? 0 : 1;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error);
    process.exit(2);
  },
);
