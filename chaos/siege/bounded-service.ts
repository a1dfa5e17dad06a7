import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AQM, type ReadyProcess, startProcess } from '../../testkit/service-process';
import { procFile } from './processor-use';

/** The largest memory of the service, in MiB. */
export const MEMORY_MIB = 512;
/** The heap limit where no cgroup can be made, in MiB: what is outside the heap must also fit. */
const HEAP_MIB = 384;

export interface BoundedService extends ReadyProcess {
  /** Says how the memory is limited. */
  readonly bound: string;
  /** Resident memory, in MiB; 0 if the process has ended. */
  residentMiB(): number;
  stop(): Promise<number | null>;
}

interface MemoryGroup {
  /** The file to which a process writes its number to join. */
  readonly processes: string;
  remove(): void;
}

/** Starts the compiled service with 512 MiB of memory, of which PostgreSQL is no part. */
export async function startBounded(env: NodeJS.ProcessEnv): Promise<BoundedService> {
  const group = createMemoryGroup();
  const heap = group ? [] : [`--max-old-space-size=${HEAP_MIB}`];
  const command = [process.execPath, '--enable-source-maps', ...heap, AQM, 'serve'];
  const [program = '', ...args] = group
    ? ['/bin/sh', '-c', 'echo $$ > "$0" && exec "$@"', group.processes, ...command]
    : command;
  process.once('exit', () => group?.remove());
  const ready = await startProcess(program, args, { env: { ...process.env, AQM_LISTEN: '127.0.0.1:0', ...env } });
  return {
    ...ready,
    bound: group ? `a cgroup of ${MEMORY_MIB} MiB` : `a heap of ${HEAP_MIB} MiB`,
    residentMiB: () => Number(/VmRSS:\s+(\d+) kB/.exec(procFile(ready.child.pid, 'status'))?.[1] ?? 0) / 1024,
    stop: async () => {
      const code = await ready.end('SIGTERM');
      group?.remove();
      return code;
    },
  };
}

/** Creates a memory cgroup, version 2 or 1. Returns undefined where that is not allowed. */
function createMemoryGroup(): MemoryGroup | undefined {
  for (const [parent, limit] of [
    ['/sys/fs/cgroup', 'memory.max'],
    ['/sys/fs/cgroup/memory', 'memory.limit_in_bytes'],
  ] as const) {
    const folder = join(parent, `aqm-siege-${randomUUID()}`);
    try {
      // In the folder of a mounted cgroup the files appear by themselves; elsewhere the limit cannot be read back.
      mkdirSync(folder);
      const file = join(folder, limit);
      readFileSync(file);
      writeFileSync(file, String(MEMORY_MIB * 1024 * 1024));
      return { processes: join(folder, 'cgroup.procs'), remove: () => removeFolder(folder) };
    } catch {
      removeFolder(folder);
    }
  }
  return undefined;
}

function removeFolder(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // It does not exist, or the kernel has not yet noticed that its last process has ended.
  }
}
