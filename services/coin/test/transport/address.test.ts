import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../../../../testkit/command';
import { requireFreeAddress } from '../../transport/address';

test('a port in use ends the service with one sentence, before it touches anything', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as AddressInfo;
  const dataDir = mkdtempSync(join(tmpdir(), 'aqm-address-'));
  const env = { AQM_DATA_DIR: dataDir, AQM_LISTEN: `127.0.0.1:${port}`, AQM_LOG_LEVEL: 'silent' };
  const { code, stdout, stderr } = await runCommand('serve', [], env);
  other.close();
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toContain(
    `The service cannot listen at 127.0.0.1:${port}: another program listens there. Stop it, or set AQM_LISTEN to another port.`,
  );
  expect(stderr).not.toContain('    at ');
  expect(readdirSync(dataDir)).toEqual([]);
  rmSync(dataDir, { recursive: true });
});

test('an address of another machine is refused, a free one is not', async () => {
  await expect(requireFreeAddress('198.51.100.1', 50051)).rejects.toThrow('this machine has no such address');
  await expect(requireFreeAddress('[::1]', 0)).resolves.toBeUndefined();
});
