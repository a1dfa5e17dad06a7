import { once } from 'node:events';
import { connect } from 'node:http2';
import { pino } from 'pino';
import { startService, type TestService } from '../../../../testkit/service';
import { readConfig } from '../../config';
import { CoinLimits } from '../../limits/coin-limits';
import { MemoryLimits } from '../../limits/memory-limits';

/** Answered at once: 100 at first, and then 50 in each second. */
const AT_FIRST = 100;
const EMPTY = Buffer.alloc(5);

let lines: string[];
let service: TestService;

beforeEach(async () => {
  lines = [];
  const log = pino({}, { write: (line) => lines.push(line) });
  const limits = [new CoinLimits(new MemoryLimits(), readConfig({}).limits.rates, log)];
  service = await startService({}, { replicas: 1, limits });
});
afterEach(() => service.stop());

test('who calls many methods that do not exist is answered late, and holds up nobody else', async () => {
  const session = connect(`http://${service.address}`);
  await once(session, 'remoteSettings');
  const call = async () => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/no.such/Method',
      'content-type': 'application/grpc',
    });
    const headers = once(stream, 'response');
    stream.resume().end(EMPTY);
    return (await headers)[0]['grpc-status'];
  };
  const answered: string[] = [];
  const calls = Array.from({ length: 2 * AT_FIRST }, async () => answered.push(await call()));
  const bob = await service.user();
  expect((await bob.count()).available?.bronze).toBe(0);
  await Promise.all(calls);
  expect(answered).toEqual(Array(2 * AT_FIRST).fill('12'));
  expect(lines).toEqual([expect.stringContaining('"refused":{"anonymous":1},"network":"127.0.0.1"')]);
  session.destroy();
});
