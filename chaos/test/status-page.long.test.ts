import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Browser, chromium, type Page } from 'playwright-core';
import type { Status } from '../../services/coin/status/status';
import { runCommand } from '../../testkit/command';
import { eventually } from '../../testkit/eventually';
import { compiled } from '../../testkit/root';
import { STATES } from '../service/states';

// A state lasts until the service has seen it, and another until it is over.
jest.setTimeout(900_000);

/** The folder of the screenshots; without it none are taken. */
const { STATUS_SCREENSHOTS } = process.env;

let bed: ChildProcessWithoutNullStreams;
let lines: AsyncIterator<string>;
let browser: Browser;
let page: Page;
let url: string;
const problems: string[] = [];

beforeAll(async () => {
  bed = spawn(process.execPath, ['--enable-source-maps', compiled('chaos/service/state-bed')]);
  bed.stderr.pipe(process.stderr);
  lines = createInterface(bed.stdout)[Symbol.asyncIterator]();
  url = await nextLine();
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(message.text());
  });
  page.on('pageerror', (error) => problems.push(String(error)));
  page.on('request', (request) => {
    if (!request.url().startsWith(url)) problems.push(`a request to ${request.url()}`);
  });
  await page.goto(`${url}/status`);
});

afterAll(async () => {
  await browser?.close();
  if (bed?.exitCode === null) {
    bed.stdin.end();
    await once(bed, 'exit');
  }
});

async function nextLine(): Promise<string> {
  const { value, done } = await lines.next();
  if (done) throw new Error('the test bed has ended');
  return value;
}

/** Lets the test bed do something, and waits until it is done. */
async function order(line: string): Promise<void> {
  bed.stdin.write(`${line}\n`);
  expect(await nextLine()).toBe(line);
}

const statusNow = async () => (await (await fetch(`${url}/status.json`)).json()) as Status;

/** Waits until the page shows a finding of this name, as the service reports it. */
async function shows(name: string): Promise<Status> {
  return eventually(`the page shows ${name}`, async () => {
    const status = await statusNow();
    const { diagnosis } = status;
    const shown = await page.locator('#verdict').textContent();
    return diagnosis.name === name && shown === diagnosis.title && status;
  });
}

async function takeScreenshots(name: string): Promise<void> {
  if (!STATUS_SCREENSHOTS) return;
  mkdirSync(STATUS_SCREENSHOTS, { recursive: true });
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme });
    for (const width of [390, 1280]) {
      await page.setViewportSize({ width, height: 900 });
      await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 300)));
      const path = join(STATUS_SCREENSHOTS, `${name}-${colorScheme}-${width}.png`);
      await page.screenshot({ path, fullPage: true });
    }
  }
}

/** Runs `aqm top --once`. */
const top = (...args: string[]) => runCommand('top', ['--once', '--address', url, ...args], {});

async function checkState(name: string, finding: string, level: RegExp, exitCode: number): Promise<void> {
  await shows(finding);
  expect(await page.locator('#level').textContent()).toMatch(level);
  expect(await page.locator('#sentence').textContent()).not.toBe('');
  await takeScreenshots(name);
  // One finding may have several sentences, which change while the fault lasts, as their numbers do every second.
  await eventually(`aqm top says the same of ${name}`, async () => {
    const { diagnosis } = await shows(finding);
    const printed = await top();
    if (STATUS_SCREENSHOTS) writeFileSync(join(STATUS_SCREENSHOTS, `${name}.txt`), printed.stdout);
    const text = printed.stdout.replaceAll(/\s+/g, ' ');
    const [beginning = ''] = diagnosis.sentence.split(/\d|;/);
    return text.includes(diagnosis.title) && text.includes(beginning.trim()) && printed.code === exitCode;
  });
}

test('all is well', async () => {
  await eventually('there are a few samples', async () => (await statusNow()).history.time.length >= 3);
  await checkState('well', 'well', /^Well$/, 0);
  const figures = await page.locator('#figures').textContent();
  expect(figures).toContain('Restore fenceopen');
  expect(figures).not.toContain('unknown');
});

test.each(Object.entries(STATES))('%s is shown in words, and is over when it is mended', async (name, state) => {
  await shows('well');
  await order(`enter ${name}`);
  try {
    await checkState(name, state.finding, /^(Failure|Warning)$/, 3);
  } finally {
    await order(`leave ${name}`);
  }
  await shows('well');
});

test('a page that stays open says when the service does not answer', async () => {
  await order('kill');
  await eventually(
    'the page says so',
    async () => (await page.locator('#verdict').textContent()) === 'The service does not answer',
  );
  await takeScreenshots('no-answer');
  expect(await top()).toMatchObject({ code: 1, stdout: expect.stringContaining('does not answer') });
  await order('start');
  await shows('well');
  // The browser reports each request that found no service.
  problems.splice(0);
});

test('the page asks nothing but its own service, breaks no policy, and can be read by a screen reader', async () => {
  expect(problems).toEqual([]);
  for (const canvas of await page.locator('canvas').all()) {
    expect(await canvas.getAttribute('aria-label')).toMatch(/in the last hour; latest: .+/);
  }
  expect(await page.locator('[role=status]').count()).toBe(1);
});
