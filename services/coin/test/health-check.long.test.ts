import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import pino from 'pino';
import { ROOT } from '../../../testkit/root';
import { startService, type TestService } from '../../../testkit/service';
import { Certificates } from '../transport/certificates';
import { CertificateAuthority } from './transport/certificate-authority';

/** The health check of the image. */
const COMMAND = join(ROOT, 'deploy/health-check.sh');

const run = promisify(execFile);

let probe: string;
let folder: string;
let service: TestService;

beforeAll(async () => {
  const { stdout } = await run(process.execPath, [join(ROOT, 'build/go-tool.mjs'), 'healthProbe']);
  probe = stdout.trim();
  folder = mkdtempSync(join(tmpdir(), 'aqm-health-'));
  service = await startService();
});
afterAll(async () => {
  await service.stop();
  rmSync(folder, { recursive: true });
});

async function health(env: NodeJS.ProcessEnv, ...args: string[]): Promise<number> {
  const PATH = `${dirname(probe)}:${process.env.PATH}`;
  const answer = await run(COMMAND, args, { env: { ...process.env, PATH, ...env } }).catch((error) => error);
  return answer.code ?? 0;
}

test('the process is healthy, and one of its services', async () => {
  const env = { AQM_LISTEN: service.address };
  expect(await health(env)).toBe(0);
  expect(await health(env, 'aqm.coin.v1.CoinService')).toBe(0);
});

test.each(['http_proxy', 'https_proxy', 'grpc_proxy'])('asks no proxy that %s names', async (name) => {
  const env = { AQM_LISTEN: service.address, no_proxy: '', no_grpc_proxy: '', [name]: 'http://127.0.0.1:9' };
  expect(await health(env)).toBe(0);
});

test.each([
  ['is fenced', { isUp: true, isFenced: true }],
  ['has no database', { isUp: false, isFenced: false }],
])('a service that %s is NOT_SERVING, and its process is healthy', async (_what, state) => {
  service.server.setServing(state);
  const env = { AQM_LISTEN: service.address };
  expect(await health(env, 'aqm.coin.v1.CoinService')).toBe(1);
  expect(await health(env)).toBe(0);
  service.server.setServing({ isUp: true, isFenced: false });
});

test('the exit code is 1 without an answer, and for an unknown service', async () => {
  expect(await health({ AQM_LISTEN: '127.0.0.1:1' })).toBe(1);
  expect(await health({ AQM_LISTEN: service.address }, 'aqm.coin.v1.Nothing')).toBe(1);
});

test('a service that listens on all addresses is asked on loopback', async () => {
  expect(await health({ AQM_LISTEN: service.address.replace('127.0.0.1', '0.0.0.0') })).toBe(0);
});

test.each(['TLS', 'mutual TLS'])('uses %s if the service does', async (kind) => {
  const authority = new CertificateAuthority(folder, kind.replace(' ', '-'));
  const clientCa = kind === 'TLS' ? undefined : join(folder, 'client-ca.crt');
  const files = { certificate: join(folder, 'server.crt'), key: join(folder, 'server.key'), clientCa };
  const issued = authority.issue();
  writeFileSync(files.certificate, issued.certificate);
  writeFileSync(files.key, issued.key);
  if (clientCa) writeFileSync(clientCa, authority.certificate);
  const certificates = new Certificates(files, pino({ level: 'silent' }));
  try {
    const env = {
      AQM_LISTEN: await service.listenAlso(certificates),
      AQM_TLS_CERT_FILE: files.certificate,
      AQM_TLS_KEY_FILE: files.key,
      ...(clientCa && { AQM_TLS_CLIENT_CA_FILE: clientCa }),
    };
    expect(await health(env)).toBe(0);
    expect(await health({ AQM_LISTEN: env.AQM_LISTEN })).toBe(1);
  } finally {
    certificates.close();
  }
});
