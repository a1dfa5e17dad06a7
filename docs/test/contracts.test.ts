import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { blocksOf } from '../../testkit/document';
import { startService, type TestService } from '../../testkit/service';
import { compileBlocks } from './typescript-blocks';

const run = promisify(execFile);
let service: TestService;
let program: Awaited<ReturnType<typeof compileBlocks>>;

beforeAll(async () => {
  service = await startService();
  program = await compileBlocks([
    ...blocksOf('contracts.md'),
    ...blocksOf('migration-playbook.md', 'Change budget caps'),
  ]);
});
afterAll(async () => {
  rmSync(program.folder, { recursive: true, force: true });
  await service.stop();
});

test('each neighbour has an example', () => {
  expect(program.names).toEqual(
    expect.arrayContaining(['coin-minting', 'context-manager', 'crypto-wrapper', 'network-layer', 'budgets']),
  );
});

test('the examples of the contracts hold, run as one program', async () => {
  const [bob, alice] = await Promise.all([service.user(), service.user()]);
  const env = {
    ...process.env,
    ADDRESS: service.address,
    FOLDER: program.folder,
    BOB: bob.id,
    BOB_TOKEN: bob.token,
    ALICE_TOKEN: alice.token,
  };
  // Imports run the parts in their order; process.exit ends the connections of the examples.
  const parts = program.names.map(
    (name) => `await import(${JSON.stringify(join(program.folder, 'out', `${name}.js`))});`,
  );
  const main = `${parts.join('\n')}\nconsole.log('all held'); process.exit(0);`;
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', main], { env });
  expect(stdout).toBe('all held\n');
});
