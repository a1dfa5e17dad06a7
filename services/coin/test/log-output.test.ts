import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { eventually } from '../../../testkit/eventually';
import { LogOutput } from '../log-output';
import { describeError } from '../logger';

const { O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;
const CHUNK = 65_536;

let folder: string;
let lost: number;
let open: number[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-log-'));
  lost = 0;
  open = [];
});
afterEach(() => {
  for (const fd of open.splice(0)) closeSync(fd);
  rmSync(folder, { recursive: true });
});

function outputTo(fd: number, retryMs = 3_600_000): LogOutput {
  return new LogOutput(fd, {
    retryMs,
    onLost: (lines) => {
      lost += lines;
    },
    lossReport: (lines) => `lost ${lines}\n`,
  });
}

/** A pipe in which the reader can go and come back. */
function pipe() {
  const path = join(folder, 'pipe');
  execFileSync('mkfifo', [path]);
  const openReader = () => openSync(path, O_RDONLY | O_NONBLOCK);
  let reader = openReader();
  const writer = openSync(path, O_WRONLY | O_NONBLOCK);
  open.push(writer);
  return {
    writer,
    leave: () => closeSync(reader),
    comeBack: () => {
      reader = openReader();
      open.push(reader);
    },
    /** Returns what is in the pipe now. */
    read: (): string => {
      const buffer = Buffer.alloc(CHUNK);
      try {
        return buffer.toString('utf8', 0, readSync(reader, buffer));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return '';
        throw error;
      }
    },
  };
}

test('lines are written in their order', async () => {
  const { writer, read, comeBack, leave } = pipe();
  const output = outputTo(writer);
  for (let n = 0; n < 100; n += 1) output.write(`${n}\n`);
  expect(await output.flush(60_000, 60_000)).toBe(true);
  expect(read()).toBe(Array.from({ length: 100 }, (_, n) => `${n}\n`).join(''));
  leave();
  comeBack();
});

test('lines without a reader are lost and counted, and reported to a reader that comes back', async () => {
  const { writer, leave, comeBack, read } = pipe();
  const output = outputTo(writer);
  output.write('first\n');
  await output.flush(60_000, 60_000);
  leave();
  for (let n = 0; n < 3; n += 1) {
    output.write('into nothing\n');
    await output.flush(60_000, 60_000);
  }
  expect(lost).toBe(3);
  comeBack();
  output.write('again\n');
  await output.flush(60_000, 60_000);
  expect(read()).toBe('first\nlost 3\nagain\n');
  expect(lost).toBe(3);
});

test('the loss is reported even if nothing else is logged', async () => {
  const { writer, leave, comeBack, read } = pipe();
  const output = outputTo(writer, 20);
  leave();
  output.write('into nothing\n');
  await output.flush(60_000, 60_000);
  comeBack();
  expect(await eventually('the report is written', () => read() || undefined)).toBe('lost 1\n');
});

test('after a line that was written in part, the next one begins on a line of its own', async () => {
  const { writer, leave, comeBack, read } = pipe();
  const output = outputTo(writer);
  output.write(`${'x'.repeat(2 * CHUNK)}\n`);
  // The pipe is full.
  expect(await output.flush(1, 60_000)).toBe(true);
  leave();
  await output.flush(60_000, 60_000);
  comeBack();
  expect(read()).toBe('x'.repeat(CHUNK));
  output.write('again\n');
  await output.flush(60_000, 60_000);
  expect(read()).toBe('\nlost 1\nagain\n');
});

test('on a full disk every line is lost and counted, and nothing fails', async () => {
  const fd = openSync('/dev/full', 'w');
  open.push(fd);
  const output = outputTo(fd);
  for (let n = 0; n < 10; n += 1) {
    output.write('no room\n');
    await output.flush(60_000, 60_000);
  }
  output.writeLastLines();
  expect(lost).toBe(10);
});

test('a reader that is stuck holds up neither the process nor its end, and its cost in memory is bounded', async () => {
  const { writer, read, comeBack, leave } = pipe();
  const output = outputTo(writer);
  const line = `${'x'.repeat(999)}\n`;
  for (let n = 0; n < 5000; n += 1) output.write(line);
  // All but the 1 MiB that wait and what is in the pipe.
  expect(lost).toBeGreaterThan(3800);
  expect(await output.flush(10, 60_000)).toBe(true);
  // The reader reads again.
  output.write('last\n');
  let text = '';
  await eventually('the last line is written', () => {
    text += read();
    return text.endsWith('last\n');
  });
  expect(text === `${line.repeat(5000 - lost)}lost ${lost}\nlast\n`).toBe(true);
  leave();
  comeBack();
});

test('an error of several addresses has the messages of all in the log, and its causes', () => {
  const several = new AggregateError([
    new Error('connect ECONNREFUSED ::1:1'),
    new Error('connect ECONNREFUSED 127.0.0.1:1'),
  ]);
  const lines: string[] = [];
  const log = pino({ serializers: { err: describeError } }, { write: (line) => lines.push(line) });
  log.warn({ err: new Error('away', { cause: several }) }, 'the database cannot be reached');
  expect(JSON.parse(lines[0] ?? '').err).toMatchObject({
    message: 'away',
    cause: { message: 'connect ECONNREFUSED ::1:1; connect ECONNREFUSED 127.0.0.1:1' },
  });
});
