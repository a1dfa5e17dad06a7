import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';
import { type Latency, latencyOf } from './numbers';
import { endedChildrenCpuMs } from './processor';

export interface GhzLoad {
  readonly address: string;
  /** For example aqm.coin.v1.CoinService/FetchCoins. */
  readonly call: string;
  readonly token: string;
  /** One request, or several that ghz sends round-robin. */
  readonly data: unknown;
  /** The number of calls in flight. Each ghz worker sends one call after the other. */
  readonly concurrency: number;
  readonly connections: number;
  readonly seconds: number;
}

export interface GhzResult {
  readonly seconds: number;
  readonly calls: number;
  /** Latency of the answered calls, in milliseconds from the moment each was sent. */
  readonly latency: Latency;
  /** The number of failed calls, by gRPC code. */
  readonly failures: Readonly<Record<string, number>>;
  readonly cpuMs: number;
}

interface Report {
  readonly total: number;
  readonly details: readonly { readonly latency: number; readonly status: string }[] | null;
}

let found: string | undefined;

/**
 * Returns the path of ghz, and builds it first if it is missing.
 * @throws if it cannot be built; the reason is on stderr
 */
export function ghzProgram(): string {
  found ??= execFileSync(process.execPath, [join(ROOT, 'build/go-tool.mjs'), 'ghz'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  }).trim();
  return found;
}

/** Runs closed-loop load with ghz. Calls that are in flight when the time is up are waited for. */
export async function runGhz(load: GhzLoad): Promise<GhzResult> {
  return await runGhzConfig({
    call: load.call,
    proto: protoOf(load.call),
    'import-paths': [join(ROOT, 'proto')],
    insecure: true,
    host: load.address,
    metadata: { authorization: `Bearer ${load.token}` },
    data: load.data,
    concurrency: load.concurrency,
    connections: load.connections,
    duration: `${Math.round(load.seconds * 1000)}ms`,
    'duration-stop': 'wait',
    timeout: '30s',
  });
}

function protoOf(call: string): string {
  const file = call.includes('CoinAdminService') ? 'coin_admin_service' : 'coin_service';
  return join(ROOT, `proto/aqm/coin/v1/${file}.proto`);
}

/** Runs ghz with a complete configuration. @throws if ghz fails; the message holds what it wrote to stderr */
export async function runGhzConfig(config: object): Promise<GhzResult> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-ghz-'));
  const [file, output] = [join(folder, 'config.json'), join(folder, 'report.json')];
  try {
    writeFileSync(file, JSON.stringify({ ...config, format: 'json', output }));
    const cpuBefore = endedChildrenCpuMs();
    const child = spawn(ghzProgram(), ['--config', file], { cwd: ROOT, stdio: ['ignore', 'ignore', 'pipe'] });
    const killed = () => child.kill('SIGKILL');
    process.once('exit', killed);
    let errors = '';
    child.stderr.on('data', (text: Buffer) => {
      errors += text;
    });
    const [code] = await once(child, 'close');
    process.off('exit', killed);
    if (code !== 0) throw new Error(`ghz ended with exit code ${code}: ${errors.trim()}`);
    const { total, details } = JSON.parse(readFileSync(output, 'utf8')) as Report;
    const failures: Record<string, number> = {};
    const answered: number[] = [];
    for (const { status, latency } of details ?? []) {
      if (status === 'OK') answered.push(latency / 1e6);
      else failures[status] = (failures[status] ?? 0) + 1;
    }
    return {
      seconds: total / 1e9,
      calls: details?.length ?? 0,
      latency: latencyOf(answered),
      failures,
      cpuMs: endedChildrenCpuMs() - cpuBefore,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
