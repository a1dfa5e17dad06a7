import { setTimeout } from 'node:timers/promises';
import { EXIT } from '../exit-codes';
import { type Replica, readReplicas } from './read-replicas';
import { renderLines } from './render';

const REFRESH_MS = 2000;
/** Switches to the alternate screen and hides the cursor; back again. */
const [ENTER, LEAVE] = ['\x1b[?1049h\x1b[?25l', '\x1b[?25h\x1b[?1049l'];
/** Moves to the first cell; clears to the end of a line, and of the screen. */
const [HOME, CLEAR_LINE, CLEAR_REST] = ['\x1b[H', '\x1b[K', '\x1b[J'];
const CTRL_C = '\x03';

/**
 * Shows the replicas on the terminal, and draws them again every two seconds and when its size changes, until "q", Ctrl-C
 * or a signal. The terminal is as before then.
 * @returns the exit code
 */
export async function showLive(urls: readonly URL[]): Promise<number> {
  const { stdin, stdout } = process;
  const quit = new AbortController();
  const stop = (): void => quit.abort();
  const onKey = (key: Buffer): void => {
    if (['q', 'Q', CTRL_C].includes(key.toString())) stop();
  };
  let replicas: readonly Replica[] = [];
  const draw = (): void => {
    const { columns = 80, rows = 24 } = stdout;
    stdout.write(`${HOME}${screen(urls.length, replicas, columns, rows)}${CLEAR_REST}`);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, stop);
  // A terminal that is gone.
  stdout.on('error', stop);
  stdin.setRawMode(true).on('data', onKey).on('end', stop);
  stdout.write(ENTER);
  stdout.on('resize', draw);
  try {
    draw();
    while (!quit.signal.aborted) {
      const read = await Promise.race([readReplicas(urls), aborted(quit.signal)]);
      if (!read) break;
      replicas = read;
      draw();
      await setTimeout(REFRESH_MS, undefined, { signal: quit.signal }).catch(() => {});
    }
  } finally {
    stdout.off('resize', draw);
    stdout.write(LEAVE);
    stdin.setRawMode(false).off('data', onKey).pause();
    for (const signal of signals) process.off(signal, stop);
  }
  return EXIT.OK;
}

function screen(count: number, replicas: readonly Replica[], columns: number, rows: number): string {
  const time = new Date().toLocaleTimeString('en-GB');
  const head = `AQM coin service, ${count === 1 ? '1 replica' : `${count} replicas`}, ${time}. q quits.`;
  const body = replicas.length > 0 ? renderLines(replicas, { width: columns, colours: !process.env.NO_COLOR }) : [];
  return [head.slice(0, columns), '', ...(replicas.length > 0 ? body : ['Reading the figures…'])]
    .slice(0, rows)
    .map((line) => `${line}${CLEAR_LINE}`)
    .join('\r\n');
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    else signal.addEventListener('abort', () => resolve(undefined), { once: true });
  });
}
