import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startService, type TestService } from '../../services/coin/test/service';

const run = promisify(execFile);
const PYTHON = join(__dirname, '../python');

let service: TestService;
let stubs: string;

beforeAll(async () => {
  service = await startService();
  stubs = mkdtempSync(join(tmpdir(), 'aqm-python-'));
});
afterAll(async () => {
  rmSync(stubs, { recursive: true, force: true });
  await service.stop();
});

test('a Python client generated straight from proto/ uploads, fetches and counts', async () => {
  const [owner, requester] = await Promise.all([service.user(), service.user()]);
  await run(join(PYTHON, 'generate'), [stubs]);
  // Debian's Python, for which Debian's packages are; another python3 may come first on PATH.
  const { stdout } = await run('/usr/bin/python3', [join(PYTHON, 'example.py')], {
    env: {
      ...process.env,
      PYTHONPATH: stubs,
      AQM_ADDRESS: service.address,
      AQM_OWNER: owner.id,
      AQM_OWNER_TOKEN: owner.token,
      AQM_REQUESTER_TOKEN: requester.token,
    },
  });
  expect(JSON.parse(stdout)).toEqual({
    uploaded: 5,
    fetched: ['COIN_CATEGORY_GOLD', 'COIN_CATEGORY_GOLD', 'COIN_CATEGORY_BRONZE'],
    fetched_as_uploaded: true,
    repeat_is_the_same: true,
    left: { gold: 0, bronze: 2 },
    bad_input: 'INVALID_ARGUMENT',
  });
});
