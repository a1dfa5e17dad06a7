import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BackendName } from './backends';
import { CoinServiceProcess } from './coin-service-process';
import { checksOf, Journal, type Step, StepFailedError, type View } from './journal';
import { type Person, switchOff } from './person';
import { RedisProcess } from './redis-process';
import type { FinalStock } from './steps/compare-stocks';
import { tellStory } from './story';
import type { RunContext } from './story-context';

/** The outcome of one run. It is the document that --json prints. */
export interface DemoReport {
  readonly ok: boolean;
  readonly backend: BackendName;
  readonly durationMs: number;
  readonly checks: { readonly held: number; readonly broken: number };
  /** Only present if every step held. */
  readonly finalStock?: FinalStock;
  /** Only present if a step failed. */
  readonly failure?: { readonly step: string; readonly reason: string; readonly serviceLog: readonly string[] };
  readonly steps: readonly Step[];
}

/**
 * Runs the story in a new temporary folder, which is always removed. A failed step is part of the report.
 * @throws the reason of `interrupted` if it aborts, after cleaning up
 */
export async function runDemo(backend: BackendName, view: View, interrupted: AbortSignal): Promise<DemoReport> {
  const startedAt = performance.now();
  const journal = new Journal(view, () => performance.now());
  const report = (rest: Pick<DemoReport, 'ok' | 'finalStock' | 'failure'>): DemoReport => {
    const checks = journal.steps.flatMap(checksOf);
    const held = checks.filter(({ ok }) => ok).length;
    const { ok, ...details } = rest;
    const durationMs = Math.round(performance.now() - startedAt);
    return {
      ok,
      backend,
      durationMs,
      checks: { held, broken: checks.length - held },
      ...details,
      steps: journal.steps,
    };
  };

  const folder = await makeFolder();
  const service = new CoinServiceProcess(join(folder, 'coin-service'));
  const people: Person[] = [];
  let redis: RedisProcess | undefined;
  try {
    const redisUrl = process.env.DEMO_REDIS_URL ?? '';
    if (backend === 'redis' && redisUrl === '') redis = await RedisProcess.start(join(folder, 'redis'));
    const runContext: RunContext = { journal, backend, folder, service, redisUrl: redis?.url ?? redisUrl, people };
    const finalStock = await Promise.race([tellStory(runContext), rejectOnAbort(interrupted)]);
    return report({ ok: true, finalStock });
  } catch (error) {
    if (!(error instanceof StepFailedError)) throw error;
    const failure = { step: error.step.id, reason: error.message, serviceLog: service.logTail() };
    return report({ ok: false, failure });
  } finally {
    await Promise.allSettled(people.map(switchOff));
    await Promise.allSettled([service.stop(), redis?.stop()]);
    await rm(folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

/**
 * Creates the temporary folder. If root runs the demo, PostgreSQL runs as another user, who needs search permission on
 * it.
 */
async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'aqm-demo-'));
  await chmod(folder, 0o711);
  await mkdir(join(folder, 'coin-service'), { mode: 0o711 });
  return folder;
}

function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
