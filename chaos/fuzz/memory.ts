import { once } from 'node:events';
import type { ReadyProcess } from '../../testkit/service-process';

/** Memory of a process after a full garbage collection, in MiB. */
export interface Memory {
  /** The memory that the collection found in use: objects, and the buffers and HTTP/2 sessions that belong to them. */
  readonly retained: number;
  /** Resident memory: also code, stacks, and what the allocators keep. */
  readonly resident: number;
  /** The maximum of resident memory so far, before collections too. */
  readonly peak: number;
}

/**
 * The environment with which a Node process must be started for `collectedMemory`. The allocator of glibc returns freed
 * memory to the system early; otherwise resident memory would vary by tens of MiB.
 */
export const MEASURED = {
  NODE_OPTIONS: '--inspect=127.0.0.1:0',
  MALLOC_MMAP_THRESHOLD_: '65536',
  MALLOC_TRIM_THRESHOLD_: '65536',
  MALLOC_ARENA_MAX: '1',
};

const INSPECTOR_URL = /^Debugger listening on (ws:\S+)$/m;
const INSPECTOR_LINE = /^(Debugger (listening on|attached|ending on)|For help, see: )/;

/** Returns the lines that the process wrote to stderr, without those of the inspector. */
export function logLines(service: ReadyProcess): string[] {
  const lines = service.log().split('\n');
  return lines.filter((line) => line !== '' && !INSPECTOR_LINE.test(line));
}

/** Collects all garbage of a process, and measures what is left. Returns undefined if the process has ended. */
export async function collectedMemory(service: ReadyProcess): Promise<Memory | undefined> {
  const url = INSPECTOR_URL.exec(service.log())?.[1];
  if (url === undefined) throw new Error('the inspector of the service does not listen');
  const socket = new WebSocket(url);
  const ended = once(socket, 'close').then(() => undefined);
  try {
    return await Promise.race([measured(socket), ended]);
  } finally {
    socket.close();
  }
}

async function measured(socket: WebSocket): Promise<Memory> {
  await once(socket, 'open');
  await command(socket, 'HeapProfiler.collectGarbage', {});
  const expression = '({ ...process.memoryUsage(), peakKiB: process.resourceUsage().maxRSS })';
  const { result } = await command<{ result: { value: NodeJS.MemoryUsage & { peakKiB: number } } }>(
    socket,
    'Runtime.evaluate',
    { expression, returnByValue: true },
  );
  const { heapUsed, external, rss, peakKiB } = result.value;
  return { retained: (heapUsed + external) / 2 ** 20, resident: rss / 2 ** 20, peak: peakKiB / 1024 };
}

/** Sends a command to an inspector and returns its result. One command at a time. */
async function command<Result>(socket: WebSocket, method: string, params: object): Promise<Result> {
  socket.send(JSON.stringify({ id: 1, method, params }));
  const [{ data }] = (await once(socket, 'message')) as [MessageEvent];
  const { result, error } = JSON.parse(String(data));
  if (error) throw new Error(`${method}: ${error.message}`);
  return result;
}

/**
 * The growth of retained memory, in MiB, that is no leak. V8 compiles more of the code, stack traces load source maps,
 * connections keep their prepared statements, and a service remembers deleted users.
 */
const MAX_GROWTH_MIB = 4;
/** The maximum ratio of resident memory, which would also show a leak that V8 does not know of. */
const MAX_RESIDENT_RATIO = 1.2;

/**
 * Judges readings at equal distances, the first of them after the warm-up. Retained memory is compared at the two ends.
 * Resident memory varies, because not all freed memory returns to the system: of its first and last third, the lowest.
 * @returns what is wrong, or undefined
 */
export function leakIn(readings: readonly Memory[]): string | undefined {
  const growth = (readings.at(-1)?.retained ?? 0) - (readings[0]?.retained ?? 0);
  if (growth > MAX_GROWTH_MIB) return `${growth.toFixed(1)} MiB more are retained than after the warm-up`;
  const third = Math.ceil(readings.length / 3);
  const ratio = lowestResident(readings.slice(-third)) / lowestResident(readings.slice(0, third));
  if (ratio > MAX_RESIDENT_RATIO) return `resident memory is ${ratio.toFixed(2)} times that after the warm-up`;
  return undefined;
}

function lowestResident(readings: readonly Memory[]): number {
  return Math.min(...readings.map(({ resident }) => resident));
}
