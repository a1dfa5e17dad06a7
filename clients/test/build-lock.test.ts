import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';
import { buildExample } from '../example';
import type { Language } from '../languages';

const FOLDER = 'lock-test';
const LOCK = join(ROOT, `node_modules/.aqm-example-${FOLDER}.lock`);
/** A build that fails while another one runs. */
const language: Language = {
  name: 'a shell',
  folder: FOLDER,
  tool: 'none',
  needs: [],
  build: [
    ['mkdir', 'busy'],
    ['sleep', '0.1'],
    ['rmdir', 'busy'],
  ],
  run: ['true'],
};

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'aqm-build-lock-'));
  await mkdir(join(root, 'clients', FOLDER), { recursive: true });
});
afterEach(() => rm(root, { recursive: true }));

test('builds of one language wait for each other', async () => {
  await Promise.all(Array.from({ length: 3 }, () => buildExample(language, root)));
  expect(existsSync(LOCK)).toBe(false);
});

test('a build does not wait for a process that was killed', async () => {
  const noProcess = 2 ** 30;
  await writeFile(LOCK, String(noProcess));
  await buildExample(language, root);
  expect(existsSync(LOCK)).toBe(false);
});
