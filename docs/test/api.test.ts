import { execFile, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { CoinAdminServiceService } from '../../gen/aqm/coin/v1/coin_admin_service';
import { CoinServiceService } from '../../gen/aqm/coin/v1/coin_service';
import { blocksOf, withTools } from '../../testkit/document';
import { ROOT } from '../../testkit/root';
import { startService, type TestService } from '../../testkit/service';
import { compileBlocks } from './typescript-blocks';

const run = promisify(execFile);
const METHODS = [CoinServiceService, CoinAdminServiceService].flatMap((service) =>
  Object.values(service).map(({ path }) => path.slice(1)),
);
/** The answers to the shell examples, in the order of the document. */
const ANSWERS: Record<string, object> = {
  'aqm.coin.v1.CoinService/UploadCoins': { insertedCount: 1, available: { bronze: 1 } },
  'aqm.coin.v1.CoinService/FetchCoins': { coins: [{ coinCategory: 'COIN_CATEGORY_BRONZE' }] },
  'aqm.coin.v1.CoinService/BatchFetchCoins': { results: [{}, { error: { code: 3, reason: 'INVALID_FIELD' } }] },
  'aqm.coin.v1.CoinService/GetInventoryCount': { available: {}, serverTime: expect.any(String) },
  'aqm.coin.v1.CoinService/ReconcileCoins': { results: [{ state: 'STATE_UNKNOWN' }] },
  'aqm.coin.v1.CoinService/FetchDeviceCoins': { results: [{ devices: [{}] }] },
  'aqm.coin.v1.CoinService/ListDevices': { devices: [{ available: {}, lastUploadTime: expect.any(String) }] },
  'aqm.coin.v1.CoinService/RemoveDevice': {},
  'aqm.coin.v1.CoinAdminService/PurgeStale': {},
  'aqm.coin.v1.CoinAdminService/HardDeleteFetched': {},
  'aqm.coin.v1.CoinAdminService/DeleteUser': {},
};
/** Makes the same calls with buf where grpcurl is not installed, as the document describes. */
const GRPCURL = `grpcurl() {
  local options=() places=()
  while [ $# -gt 0 ]; do
    case $1 in
      -plaintext) ;;
      -H | -d) options+=("$1" "\${2/#@/@-}"); shift ;;
      *) places+=("$1") ;;
    esac
    shift
  done
  buf curl --protocol grpc --http2-prior-knowledge "\${options[@]}" "http://\${places[0]}/\${places[1]}"
}`;

let service: TestService;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  service = await startService();
  const [bob, alice, admin] = await Promise.all([service.user(), service.user(), service.user({ isAdmin: true })]);
  env = withTools({
    ADDRESS: service.address,
    BOB: bob.id,
    BOB_TOKEN: bob.token,
    ALICE_TOKEN: alice.token,
    ADMIN_TOKEN: admin.token,
  });
});
afterAll(() => service.stop());

test('docs/api.md is up to date with the contract, the limits and the errors', () => {
  const check = spawnSync(process.execPath, [join(ROOT, 'build/api-reference/main.mjs'), '--check'], {
    encoding: 'utf8',
  });
  expect(check.stderr).toBe('');
  expect(check.status).toBe(0);
});

const shells = blocksOf('api.md').filter(({ language }) => language === 'sh');

test('every method has an example for the shell', () => {
  expect(shells.map(({ text }) => / (aqm\.coin\.v1\.\S+)/.exec(text)?.[1])).toEqual(METHODS);
});

test.each(METHODS.map((method, index) => [method, shells[index]?.text ?? '']))(
  '%s from the shell',
  async (method, text) => {
    const hasGrpcurl = spawnSync('grpcurl', ['--version'], { stdio: 'ignore' }).status === 0;
    const script = `set -euo pipefail\n${hasGrpcurl ? '' : GRPCURL}\n${text}`;
    const { stdout } = await run('bash', ['-c', script], { cwd: ROOT, env });
    expect(JSON.parse(stdout)).toMatchObject(ANSWERS[method] ?? { [randomUUID()]: 'no answer is known' });
  },
);

test('the examples for Node hold, run as one program', async () => {
  const blocks = blocksOf('api.md');
  const { folder, names } = await compileBlocks(blocks);
  try {
    expect(names).toHaveLength(METHODS.length + 1);
    const parts = names.map((name) => `await import(${JSON.stringify(join(folder, 'out', `${name}.js`))});`);
    const main = `${parts.join('\n')}\nconsole.log('all held'); process.exit(0);`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', main], { env });
    expect(stdout).toBe('all held\n');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
