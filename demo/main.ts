// Compiled imports run in order. better-sqlite3 crashes on an old Node, so the version check must be first.
import './require-node';
import { constants } from 'node:os';
import { type Arguments, readArguments, USAGE, UsageError } from './arguments';
import type { View } from './journal';
import { runDemo } from './run-demo';
import { startTelemetry } from './telemetry';
import { TerminalView } from './terminal-view';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

class InterruptedError extends Error {
  override readonly name = 'InterruptedError';

  constructor(readonly signal: (typeof SIGNALS)[number]) {
    super(`stopped by ${signal}`);
  }
}

const SILENT: View = { stepStarted() {}, happened() {}, stepEnded() {} };

/**
 * Resolves to the exit code. 0: every step held. 1: a step failed. 2: invalid arguments. 128 + n: stopped by signal n.
 */
async function main(args: readonly string[]): Promise<number> {
  let options: Arguments;
  try {
    options = readArguments(args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`${error.message}\n\n${USAGE}`);
    return 2;
  }
  if (options.help) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const interruption = new AbortController();
  const stopTelemetry = await startTelemetry(process.env);
  for (const signal of SIGNALS) process.on(signal, () => interruption.abort(new InterruptedError(signal)));
  try {
    return options.json
      ? await printJson(options, interruption.signal)
      : await printStory(options, interruption.signal);
  } catch (error) {
    if (!(error instanceof InterruptedError)) throw error;
    console.error(`The demo was ${error.message}.`);
    return 128 + constants.signals[error.signal];
  } finally {
    await stopTelemetry();
  }
}

async function printJson({ backend }: Arguments, interrupted: AbortSignal): Promise<number> {
  const report = await runDemo(backend, SILENT, interrupted);
  process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  if (report.failure) console.error(`FAILED: ${report.failure.reason}`);
  return report.ok ? 0 : 1;
}

async function printStory({ backend }: Arguments, interrupted: AbortSignal): Promise<number> {
  const view = new TerminalView(process.stdout);
  view.begin('AQM: the life of one-time keys, with real cryptography and a real server');
  const { ok, checks, durationMs, steps, failure } = await runDemo(backend, view, interrupted);
  if (failure) {
    view.end(ok, `FAILED: ${failure.reason}`);
    console.error(['Last lines of the coin service:', ...failure.serviceLog].join('\n'));
    return 1;
  }
  view.end(ok, `All ${steps.length} steps held, ${checks.held} checks, in ${(durationMs / 1000).toFixed(1)} s.`);
  return 0;
}

main(process.argv.slice(2)).then(
  // process.exit, not process.exitCode, because after an interruption the story may still wait for something.
  (code) => process.stdout.write('', () => process.exit(code)),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);
