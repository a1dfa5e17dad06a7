import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { RedisServer } from '../../testkit/redis-server';
import { ROOT } from '../../testkit/root';
import { startService, type TestService } from '../../testkit/service';

const run = promisify(execFile);

/** The packages that only this test needs, and installs. */
const BUNDLERS = ['esbuild@0.28.2', 'webpack@5.113.0'];
const RUNTIMES = ['bun@1.4.5', 'deno@2.9.6'];

/** The commands that bundle app.mjs of the project to out/app.cjs or out/app.mjs, as docs/device.md says. */
const ESBUILD = `
const { buildSync } = require('esbuild');
const [, , format] = process.argv;
buildSync({
  entryPoints: ['app.mjs'], bundle: true, minify: true, platform: 'node', format, external: ['better-sqlite3'],
  outfile: format === 'esm' ? 'out/app.mjs' : 'out/app.cjs',
  banner: format === 'esm' ? { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" } : {},
});`;
const WEBPACK = `
const webpack = require('webpack');
webpack({
  entry: './app.mjs', target: 'node24', mode: 'production',
  externals: { 'better-sqlite3': 'commonjs better-sqlite3' },
  output: { path: require('node:path').resolve('out'), filename: 'app.cjs' },
}, (error, stats) => {
  if (!error && !stats.hasErrors()) return;
  console.error(error ?? stats.toString());
  process.exitCode = 1;
});`;

/** A project that installed the package, the bundlers and the other runtimes. */
let project: string;
let service: TestService;
let redis: RedisServer;

beforeAll(async () => {
  project = mkdtempSync(join(tmpdir(), 'aqm-bundle-'));
  const pack = ['pack', '--json', '--ignore-scripts', '--pack-destination', project];
  const [{ filename }] = JSON.parse((await run('npm', pack, { cwd: ROOT })).stdout);
  // Their installation puts the binary of this platform in its place.
  const allowScripts = { bun: true, deno: true, esbuild: true };
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true, allowScripts }));
  const install = ['install', '--no-audit', '--no-fund', '--prefer-offline'];
  await run('npm', [...install, join(project, filename), ...BUNDLERS, ...RUNTIMES], { cwd: project });
  cpSync(join(__dirname, 'consumer/app.mjs'), join(project, 'app.mjs'));
  writeFileSync(join(project, 'esbuild.cjs'), ESBUILD);
  writeFileSync(join(project, 'webpack.cjs'), WEBPACK);
  [service, redis] = await Promise.all([startService(), RedisServer.start()]);
});
afterAll(async () => {
  rmSync(project, { recursive: true, force: true });
  await Promise.all([service.stop(), redis.destroy()]);
});

/** Runs app.mjs, or what was made of it, on a new storage in `folder`. */
async function runApp(command: string, args: readonly string[], folder: string, backend: 'sqlite' | 'redis') {
  const user = await service.user();
  const storage =
    backend === 'sqlite'
      ? { backend, path: join(folder, 'device.db'), key: 'a passphrase' }
      : { backend, url: redis.url, namespace: user.id, key: 'a passphrase' };
  const account = { ADDRESS: service.address, STORAGE: JSON.stringify(storage), USER: user.id, TOKEN: user.token };
  const { stdout } = await run(command, args, { cwd: folder, env: { ...process.env, ...account } });
  expect(stdout).toBe(`${backend}: published, cached, used, burned\n`);
}

describe.each([
  ['esbuild', 'cjs', 'app.cjs'],
  ['esbuild', 'esm', 'app.mjs'],
  ['webpack', 'commonjs', 'app.cjs'],
])('a bundle made by %s (%s)', (bundler, format, file) => {
  /** Holds the bundle, and of the packages only what better-sqlite3 needs at run time. */
  let folder: string;

  beforeAll(async () => {
    await run(process.execPath, [`${bundler}.cjs`, format], { cwd: project });
    folder = mkdtempSync(join(tmpdir(), 'aqm-bundled-'));
    cpSync(join(project, 'out', file), join(folder, file));
    for (const part of ['package.json', 'lib', 'prebuilds']) {
      const path = join('node_modules/better-sqlite3', part);
      cpSync(join(project, path), join(folder, path), { recursive: true });
    }
    rmSync(join(project, 'out'), { recursive: true });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test.each(['sqlite', 'redis'] as const)('runs on %s, with nothing else beside it', async (backend) => {
    await runApp(process.execPath, [file], folder, backend);
  });
});

describe.each([
  ['bun', ['run']],
  ['deno', ['run', '--allow-all']],
])('%s', (runtime, args) => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(project, `${runtime}-`));
  });

  test.each(['sqlite', 'redis'] as const)('runs the package on %s', async (backend) => {
    const program = join(project, 'app.mjs');
    await runApp(join(project, 'node_modules/.bin', runtime), [...args, program], folder, backend);
  });
});
