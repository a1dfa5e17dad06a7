import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { blocksOf } from '../../testkit/document';
import { eventually } from '../../testkit/eventually';
import { ROOT } from '../../testkit/root';
import { Compose } from './compose';
import { makeImage } from './image';
import { Machine } from './machine';

/**
 * Types the commands of docs/deployment.md, "Docker Compose", from nothing to a served call. Two programs are others here: `docker
 * compose` asks this test, and grpcurl is buf curl.
 */
const DOCKER = `#!/bin/sh
[ "$1" = compose ] || exit 1
answer=$(curl --silent --show-error --fail-with-body --unix-socket "$SOCKET" --data-binary "docker $*" http://test/)
code=$?
[ -z "$answer" ] || printf '%s\\n' "$answer"
exit $code
`;
const GRPCURL = `#!/bin/sh
# grpcurl -plaintext -H HEADER ADDRESS METHOD
exec "${ROOT}/node_modules/.bin/buf" curl --protocol grpc --http2-prior-knowledge --reflect "$2" "$3" "http://$4/$5"
`;

let folder: string;
let machine: Machine;
let compose: Compose;
let docker: Server;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-compose-'));
  chmodSync(folder, 0o755);
  const image = await makeImage(join(folder, 'image'));
  machine = await Machine.start([ROOT, folder]);
  const { postgres } = JSON.parse(process.env.TEST_BINARIES ?? '{}');
  // An account that is no root, as PostgreSQL requires.
  const user = Number(await machine.do('id -u postgres'));
  compose = new Compose(machine, image, {
    pgbouncer: { entrypoint: ['pgbouncer', '/etc/pgbouncer/pgbouncer.ini'], user },
    postgres: { entrypoint: ['env', `BIN=${dirname(postgres)}`, join(ROOT, 'deploy/test/postgres-stand-in.sh')], user },
  });
  docker = createServer(async (request, response) => {
    let line = '';
    for await (const chunk of request) line += chunk;
    const answer = await compose.run(line).catch((error) => ({ code: 1, stdout: '', stderr: String(error) }));
    response.writeHead(answer.code === 0 ? 200 : 500).end(`${answer.stdout}${answer.code === 0 ? '' : answer.stderr}`);
  });
  await once(docker.listen(join(folder, 'docker.sock')), 'listening');
  machine.write('/usr/local/bin/docker', DOCKER.replace('$SOCKET', join(folder, 'docker.sock')), 0o755);
  machine.write('/usr/local/bin/grpcurl', GRPCURL, 0o755);
});
afterAll(async () => {
  docker?.close();
  await machine?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const [block] = blocksOf('deployment.md', 'Docker Compose');

test('the commands of the guide end with a served call and a doctor that finds nothing wrong', async () => {
  const said = await machine.do(block?.text ?? '', { PATH: `/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin` });
  expect(JSON.parse(/^\{.*?^\}/ms.exec(said)?.[0] ?? said)).toMatchObject({ available: {} });
  expect(said).toMatch(/^ok +connection/m);
  expect(said).not.toMatch(/^fail/m);
});

test('the role of the service is no superuser, and owns its database only', async () => {
  const query =
    "SELECT (rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls) FROM pg_roles WHERE rolname = 'aqm'";
  const psql = ['psql', '--host=/tmp', '--username=postgres', '--tuples-only', '--no-align', `--command=${query}`];
  expect((await compose.exec('postgres', psql)).stdout).toBe('(f,f,f,f,f)\n');
});

test('down and up keep the database, the keys and the watermark', async () => {
  const [{ stdout: token }] = [
    await compose.run('docker compose run --rm token --user 3f6c1d52-8a7e-4b0c-9d21-5e4f60718293'),
  ];
  expect((await compose.run('docker compose down')).code).toBe(0);
  expect((await compose.run('docker compose up --wait')).code).toBe(0);
  await machine.do(
    `grpcurl -plaintext -H "authorization: Bearer ${token.trim()}" 127.0.0.1:50051 aqm.coin.v1.CoinService/GetInventoryCount`,
  );
  // The process has the same host and number, so it took over the file of the one before.
  expect(await machine.do('cd /var/lib/volumes/coin/fence; ls */*')).toMatch(/^[^/]+\/coin-1\.ring\n$/);
});

test('with its profile, the service reaches PostgreSQL through PgBouncer', async () => {
  expect((await compose.run('docker compose down')).code).toBe(0);
  const env = { AQM_POOLER: 'transaction', AQM_DATABASE: 'database-url-pgbouncer' };
  // PostgreSQL must run, as after the first start.
  expect((await compose.run('docker compose up --wait')).code).toBe(0);
  const timeouts = await compose.run('docker compose run --rm migrate aqm migrate timeouts', env);
  expect([timeouts.code, timeouts.stderr]).toEqual([0, expect.any(String)]);
  await compose.run('docker compose down');
  expect((await compose.run('docker compose --profile pgbouncer up --wait', env)).code).toBe(0);
  const { stdout, stderr } = await compose.exec('coin', ['aqm', 'doctor']);
  expect(stderr).toContain('aqm@pgbouncer:6432/aqm');
  expect(stdout).toMatch(/^ok +connection/m);
  const check = ['aqm-health', 'aqm.coin.v1.CoinService'];
  await eventually('readiness', async () => (await compose.exec('coin', check)).code === 0);
});
