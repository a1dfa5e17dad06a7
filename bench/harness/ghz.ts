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
  /** One request, or several that take turns. */
  readonly data: unknown;
  /** Calls in flight, each lane with one after the other. */
  readonly concurrency: number;
  readonly connections: number;
  readonly seconds: number;
}

export interface GhzResult {
  readonly seconds: number;
  readonly calls: number;
  /** Of those that were answered, in milliseconds, from the moment each was sent. */
  readonly latency: Latency;
  /** By gRPC code; OK is not there. */
  readonly failures: Readonly<Record<string, number>>;
  readonly cpuMs: number;
}

interface Report {
  readonly total: number;
  readonly details: readonly { readonly latency: number; readonly status: string }[] | null;
}

let found: string | undefined;

/** Where ghz is; built where it is not there yet. @throws when it cannot be had; the reason is on stderr */
export function ghzProgram(): string {
  found ??= execFileSync(process.execPath, [join(ROOT, 'build/go-tool.mjs'), 'ghz'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  }).trim();
  return found;
}

/** Closed-loop load by ghz: it waits for the calls that are in flight at the end. */
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

/** @throws when ghz fails, with what it said */
export async function runGhzConfig(config: object): Promise<GhzResult> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-ghz-'));
  const [file, output] = [join(folder, 'config.json'), join(folder, 'report.json')];
  try {
    writeFileSync(file, JSON.stringify({ ...config, format: 'json', output }));
    const cpuBefore = endedChildrenCpuMs();
    const child = spawn(ghzProgram(), ['--config', file], { cwd: ROOT, stdio: ['ignore', 'ignore', 'pipe'] });
    const killed = () => child.kill('SIGKILL');
    process.once('exit', killed);
    let said = '';
    child.stderr.on('data', (text: Buffer) => {
      said += text;
    });
    const [code] = await once(child, 'close');
    process.off('exit', killed);
    if (code !== 0) throw new Error(`ghz ended with ${code}: ${said.trim()}`);
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
