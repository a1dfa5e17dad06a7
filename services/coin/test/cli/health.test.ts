import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pino from 'pino';
import { compiled } from '../../../../testkit/root';
import { startService, type TestService } from '../../../../testkit/service';
import { Certificates } from '../../transport/certificates';
import { CertificateAuthority } from '../transport/certificate-authority';

const COMMAND = compiled('services/coin/cli/health');

let folder: string;
let service: TestService;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-health-'));
  service = await startService();
});
afterAll(async () => {
  await service.stop();
  rmSync(folder, { recursive: true });
});

async function health(env: NodeJS.ProcessEnv, ...args: string[]): Promise<{ code: number; said: string }> {
  const answer = await promisify(execFile)(process.execPath, [COMMAND, ...args], {
    env: { ...process.env, AQM_DATA_DIR: folder, ...env },
  }).catch((error) => error);
  return { code: answer.code ?? 0, said: `${answer.stdout}${answer.stderr}` };
}

test('prints SERVING for the process and for one of its services', async () => {
  const env = { AQM_LISTEN: service.address };
  expect(await health(env)).toEqual({ code: 0, said: 'SERVING\n' });
  expect(await health(env, 'aqm.coin.v1.CoinService')).toEqual({ code: 0, said: 'SERVING\n' });
});

test.each(['http_proxy', 'https_proxy', 'grpc_proxy'])('asks no proxy that %s names', async (name) => {
  const env = { AQM_LISTEN: service.address, no_proxy: '', no_grpc_proxy: '', [name]: 'http://127.0.0.1:9' };
  expect(await health(env)).toEqual({ code: 0, said: 'SERVING\n' });
});

test.each([
  ['is fenced', { isUp: true, isFenced: true }],
  ['has no database', { isUp: false, isFenced: false }],
])('a service that %s is NOT_SERVING, and its process is healthy', async (_what, state) => {
  service.server.setServing(state);
  const env = { AQM_LISTEN: service.address };
  expect(await health(env, 'aqm.coin.v1.CoinService')).toEqual({ code: 1, said: 'NOT_SERVING\n' });
  expect((await health(env)).code).toBe(0);
  service.server.setServing({ isUp: true, isFenced: false });
});

test('the exit code is 1 without an answer or for an unknown service, and 2 for invalid settings and arguments', async () => {
  expect((await health({ AQM_LISTEN: '127.0.0.1:1' })).code).toBe(1);
  expect((await health({ AQM_LISTEN: service.address }, 'aqm.coin.v1.Nothing')).code).toBe(1);
  expect((await health({ AQM_LISTEN: 'nowhere' })).code).toBe(2);
  expect((await health({ AQM_LISTEN: service.address }, 'a', 'b')).code).toBe(2);
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
    expect(await health(env)).toEqual({ code: 0, said: 'SERVING\n' });
    expect((await health({ AQM_LISTEN: env.AQM_LISTEN })).code).toBe(1);
  } finally {
    certificates.close();
  }
});
