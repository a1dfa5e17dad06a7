import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { SignJWT } from 'jose';
import { blocksOf } from '../../testkit/document';
import { eventually } from '../../testkit/eventually';
import { ROOT } from '../../testkit/root';
import { makeImage } from './image';
import { Machine } from './machine';

/**
 * Types the commands of docs/deployment.md, "One machine", from nothing to a served call, on a machine with a real systemd. Other
 * than in the guide: `npm` copies what it would install, because the machine has no way out; each "…" is a password; and the names
 * under example.org lead to servers that run beside the service, with certificates of an authority of its own.
 */

const NAMES = ['db.example.org', 'redis.example.org', 'id.example.org', 'coin.example.org'];
const PASSWORD = 'f3a9c27e51';
const NODE_VERSION: string = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).devDependencies.node;
const [node, install, createRole, environment, start] = blocksOf('deployment.md', 'One machine').map(
  ({ text }) => text,
);

let folder: string;
let image: string;
let machine: Machine;
const { privateKey, publicKey } = generateKeyPairSync('ed25519');

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-systemd-'));
  chmodSync(folder, 0o755);
  image = await makeImage(join(folder, 'image'));
  makeCertificates();
  machine = await Machine.start([ROOT, folder], ['/lib/systemd/systemd', '--system', '--unit=basic.target']);
  // Degraded: a unit of this machine that the test does not need has failed.
  await eventually('systemd', async () =>
    /^(running|degraded)/.test((await machine.run('systemctl is-system-running')).stdout),
  );
  await machine.do(`echo '127.0.0.1 ${NAMES.join(' ')}' >>/etc/hosts; mkdir /opt/aqm; cp -a ${ROOT}/deploy /opt/aqm`);
  machine.write('/usr/local/sbin/npm', npm(), 0o755);
  await startWorld();
});
afterAll(async () => {
  await machine?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const npm = () => `#!/bin/sh
case "$*" in
"install --global --allow-scripts=node node@${NODE_VERSION}") cp ${process.execPath} /usr/local/bin/node ;;
ci) cp -a ${image}/app/. . ;;
"prune --omit=dev --omit=optional") ;;
*) echo "unexpected: npm $*" >&2; exit 1 ;;
esac
`;

function makeCertificates(): void {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=authority', '-days', '365');
  openssl('req', ...key, '-keyout', 'tls.key', '-out', 'tls.csr', '-subj', '/CN=coin.example.org');
  writeFileSync(join(folder, 'names'), `subjectAltName=${NAMES.map((name) => `DNS:${name}`).join(',')}\n`);
  const sign = [
    'x509',
    '-req',
    '-in',
    'tls.csr',
    '-CA',
    'ca.crt',
    '-CAkey',
    'ca.key',
    '-CAcreateserial',
    '-days',
    '365',
  ];
  openssl(...sign, '-extfile', 'names', '-out', 'tls.crt');
  mkdirSync(join(folder, 'id'));
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'EdDSA', use: 'sig' };
  writeFileSync(join(folder, 'id/jwks.json'), JSON.stringify({ keys: [jwk] }));
}

/** Starts the database, the Redis and the issuer of tokens that the guide takes for granted. */
async function startWorld(): Promise<void> {
  const { initdb, postgres } = JSON.parse(process.env.TEST_BINARIES ?? '{}');
  await machine.do(`
install -d -o postgres /srv/pg
install -m 0600 -o postgres ${folder}/tls.key /srv/pg/tls.key
cd /srv/pg
runuser -u postgres -- ${initdb} -D /srv/pg/data -U postgres --auth-local=trust --auth-host=scram-sha-256 --no-sync >/dev/null
echo 'hostssl all all all scram-sha-256' >>/srv/pg/data/pg_hba.conf`);
  const settings = [
    'ssl=on',
    `ssl_cert_file=${folder}/tls.crt`,
    'ssl_key_file=/srv/pg/tls.key',
    'listen_addresses=127.0.0.1',
  ];
  const options = [...settings, 'unix_socket_directories=/srv/pg'].map((setting) => `-c ${setting}`).join(' ');
  await machine.do(`systemd-run --unit=world-postgres --uid=postgres ${postgres} -D /srv/pg/data ${options}`);
  const tls = `--tls-cert-file ${folder}/tls.crt --tls-key-file ${folder}/tls.key --tls-ca-cert-file ${folder}/ca.crt`;
  await machine.do(
    `systemd-run --unit=world-redis redis-server --port 0 --tls-port 6379 --tls-auth-clients no ${tls} --requirepass ${PASSWORD}`,
  );
  const server = `const { readFileSync: read } = require('fs'); const dir = '${folder}/';
require('https').createServer({ cert: read(dir + 'tls.crt'), key: read(dir + 'tls.key') }, (_request, response) => {
  response.setHeader('content-type', 'application/json'); response.end(read(dir + 'id/jwks.json'));
}).listen(443)`;
  writeFileSync(join(folder, 'issuer.js'), server);
  await machine.do(`systemd-run --unit=world-issuer ${process.execPath} ${folder}/issuer.js`);
  await eventually('PostgreSQL', async () => (await machine.run('pg_isready --host=/srv/pg')).code === 0);
}

const state = async (property: string) =>
  (await machine.do(`systemctl show aqm --property=${property} --value`)).trim();
const log = () => machine.do('journalctl -u aqm -o cat');
const readies = async () => (await log()).split('"msg":"ready"').length - 1;

/** Calls the service as a client does. @returns the answer */
async function call(): Promise<unknown> {
  const token = await new SignJWT()
    .setProtectedHeader({ alg: 'EdDSA', kid: 'one' })
    .setSubject(randomUUID())
    .setIssuer('https://id.example.org')
    .setAudience('aqm-coin')
    .setExpirationTime('1h')
    .sign(privateKey);
  const buf = `${ROOT}/node_modules/.bin/buf curl --protocol grpc --reflect --cacert ${folder}/ca.crt`;
  const method = 'https://coin.example.org:50051/aqm.coin.v1.CoinService/GetInventoryCount';
  return JSON.parse(
    await machine.do(`${buf} -H 'authorization: Bearer ${token}' ${method}`, {
      PATH: `${dirname(process.execPath)}:/usr/bin:/bin`,
    }),
  );
}

test('the blocks of the guide end with a served call', async () => {
  await machine.do(node ?? '');
  expect(await machine.do('node --version')).toBe(`v${NODE_VERSION}\n`);
  await machine.do(install ?? '');
  const fill = (text = '') => text.replaceAll('…', PASSWORD);
  machine.write('/srv/role.sql', fill(createRole));
  await machine.do('psql --quiet --host=/srv/pg --username=postgres --set=ON_ERROR_STOP=1 --file=/srv/role.sql');
  machine.write('/srv/aqm.env', `${fill(environment)}\nNODE_EXTRA_CA_CERTS=/etc/aqm/ca.crt\n`);
  await machine.do(`cat /srv/aqm.env >/etc/aqm/aqm.env
install -m 0644 ${folder}/ca.crt ${folder}/tls.crt /etc/aqm
install -m 0640 -g aqm ${folder}/tls.key /etc/aqm`);
  // Node reads it before it reads the file.
  await machine.do(start ?? '', { NODE_EXTRA_CA_CERTS: '/etc/aqm/ca.crt' });
  await eventually('ready', async () => (await readies()) === 1);
  expect(await call()).toMatchObject({ available: {} });
});

test('the environment file and the watermark can be read by the service only', async () => {
  const modes = await machine.do('stat --format="%n %U:%G %a" /etc/aqm/aqm.env /var/lib/aqm /var/lib/aqm/fence');
  expect(modes).toMatch(
    /^\/etc\/aqm\/aqm\.env root:aqm 640\n\/var\/lib\/aqm aqm:aqm 700\n\/var\/lib\/aqm\/fence aqm:aqm /,
  );
});

test('systemd rates what the unit leaves open below 1.5 of 10, and finds nothing wrong in it', async () => {
  const said = await machine.do('systemd-analyze security aqm.service');
  const [, exposure] = /Overall exposure level for aqm\.service: ([\d.]+)/.exec(said) ?? [];
  expect(Number(exposure)).toBeLessThan(1.5);
  const found = await machine.run('systemd-analyze verify aqm.service');
  expect(`${found.stdout}${found.stderr}`).not.toContain('aqm.service:');
});

test('a service that is killed is restarted; PostgreSQL that is away restarts nothing', async () => {
  await machine.do('systemctl kill --signal=SIGKILL aqm');
  await eventually('a restart', async () => (await readies()) === 2);
  await machine.do('systemctl kill --signal=SIGQUIT world-postgres');
  await eventually('no database', async () => (await machine.run('pg_isready --host=/srv/pg')).code !== 0);
  await expect(call()).rejects.toThrow('The database cannot be reached');
  expect([await state('ActiveState'), await state('NRestarts')]).toEqual(['active', '1']);
});

test('stop ends it in order; a wrong setting is no reason to restart', async () => {
  await machine.do('systemctl stop aqm');
  expect([await state('ActiveState'), await state('Result')]).toEqual(['inactive', 'success']);
  await machine.do('echo AQM_LISTENN=0.0.0.0:1 >>/etc/aqm/aqm.env; systemctl start aqm');
  await eventually('the failure', async () => (await state('ActiveState')) === 'failed');
  expect([await state('ExecMainStatus'), await state('NRestarts')]).toEqual(['2', '0']);
  expect(await log()).toContain('AQM_LISTENN');
});
