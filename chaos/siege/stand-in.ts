import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { processorMs, procFile } from './processor-use';

// A program that takes as much processor time as an attacker did, and sends nothing. It is forked with the number of the
// attacker's process, and records how much that uses until it gets a message. At the next message it begins to use as much,
// over and over, until it is killed. What honest calls lose beside it they lose to the processor time of the attack and not to the
// service: here, unlike in production, attacker, users, service and PostgreSQL share the cores of one machine.

/** Time between two samples, in milliseconds: bursts of the attacker remain bursts. */
const SAMPLE_MS = 10;

interface Sample {
  /** Time since the start of the record, in milliseconds. */
  readonly atMs: number;
  /** Processor time that was used since the last sample, in milliseconds. */
  readonly busyMs: number;
}

async function record(pid: number, signal: AbortSignal): Promise<readonly Sample[]> {
  const samples: Sample[] = [];
  const [start, startMs] = [performance.now(), processorMs(pid)];
  let last = mainThreadMs(pid);
  let usedMs = 0;
  while (!signal.aborted) {
    await setTimeout(SAMPLE_MS);
    const now = mainThreadMs(pid);
    samples.push({ atMs: performance.now() - start, busyMs: now - last });
    usedMs = processorMs(pid) - startMs;
    last = now;
  }
  // The exact times are those of the main thread alone. The others, which collect garbage, are busy when it is.
  const all = usedMs / samples.reduce((sum, { busyMs }) => sum + busyMs, 0);
  return samples.map(({ atMs, busyMs }) => ({ atMs, busyMs: busyMs * all }));
}

/** Returns the processor time of the main thread of a process, in milliseconds. */
function mainThreadMs(pid: number): number {
  return Number(procFile(pid, 'schedstat').split(' ')[0]) / 1e6;
}

async function replay(samples: readonly Sample[]): Promise<void> {
  const start = performance.now();
  for (const { atMs, busyMs } of samples) {
    const waitMs = atMs - SAMPLE_MS - (performance.now() - start);
    if (waitMs > 0) await setTimeout(waitMs);
    burn(busyMs);
  }
}

function burn(ms: number): void {
  const start = process.cpuUsage();
  for (let usedMs = 0; usedMs < ms; ) {
    const { user, system } = process.cpuUsage(start);
    usedMs = (user + system) / 1000;
  }
}

async function standIn(pid: number): Promise<never> {
  const ended = new AbortController();
  process.once('message', () => ended.abort());
  process.send?.('recording');
  const samples = await record(pid, ended.signal);
  process.send?.('recorded');
  await once(process, 'message');
  for (;;) await replay(samples);
}

void standIn(Number(process.argv[2]));
