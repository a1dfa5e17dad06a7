import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
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
  await run(join(PYTHON, 'generate'), [stubs]);
});
afterAll(async () => {
  rmSync(stubs, { recursive: true, force: true });
  await service.stop();
});

/** What the example prints, run against an address by two users of the service. */
async function runExample(address: string): Promise<unknown> {
  const [owner, requester] = await Promise.all([service.user(), service.user()]);
  // Debian's Python, for which Debian's packages are; another python3 may come first on PATH.
  const { stdout } = await run('/usr/bin/python3', [join(PYTHON, 'example.py')], {
    env: {
      ...process.env,
      PYTHONPATH: stubs,
      AQM_ADDRESS: address,
      AQM_OWNER: owner.id,
      AQM_OWNER_TOKEN: owner.token,
      AQM_REQUESTER_TOKEN: requester.token,
    },
  });
  return JSON.parse(stdout);
}

const EXPECTED = {
  uploaded: 5,
  fetched: ['COIN_CATEGORY_GOLD', 'COIN_CATEGORY_GOLD', 'COIN_CATEGORY_BRONZE'],
  fetched_as_uploaded: true,
  repeat_is_the_same: true,
  left: { gold: 0, bronze: 2 },
  bad_input: 'INVALID_ARGUMENT',
};

test('a Python client generated straight from proto/ uploads, fetches and counts', async () => {
  expect(await runExample(service.address)).toEqual(EXPECTED);
});

test('its user does not notice that the service is away for a moment', async () => {
  const [host = '', port] = service.address.split(':');
  let refused = 0;
  const door = createServer((socket) => {
    socket.on('error', () => undefined);
    if (refused < 2) {
      refused += 1;
      socket.destroy();
      return;
    }
    const way = connect(Number(port), host);
    way.on('error', () => undefined);
    socket.pipe(way).pipe(socket);
  });
  await once(door.listen(0, '127.0.0.1'), 'listening');
  try {
    const { port: at } = door.address() as AddressInfo;
    expect(await runExample(`127.0.0.1:${at}`)).toEqual(EXPECTED);
    expect(refused).toBe(2);
  } finally {
    door.close();
  }
});
