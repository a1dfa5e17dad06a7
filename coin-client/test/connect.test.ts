import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { inspect } from 'node:util';
import { logVerbosity, Metadata, setLogVerbosity, status } from '@grpc/grpc-js';
import { Network } from '../../testkit/network';
import { IS_FULL_RUN } from '../../testkit/tier';
import { type CoinServiceCalls, CoinServiceError, type CoinServiceSettings, connectCoinService } from '../index';
import { PlainService, withDetails } from './plain-service';

const STOCK = { available: { gold: 1, silver: 2, bronze: 3 } };
const DAY_MS = 86_400_000;
/** Short, so that a call on a dead connection ends soon; long enough for an answer on a busy machine. */
const SHORT_MS = 3_000;

// grpc-js logs that the proxy of a test hangs up.
setLogVerbosity(logVerbosity.NONE);

let service: PlainService;
const clients: CoinServiceCalls[] = [];
beforeEach(async () => {
  service = await PlainService.start();
});
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
  service.stop();
});

function connect(address: string, settings: Partial<CoinServiceSettings> = {}): CoinServiceCalls {
  const client = connectCoinService(address, { token: () => 'a.b.c', ...settings });
  clients.push(client);
  return client;
}

const errorOf = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => new Error('The call succeeded.'),
    (error: unknown) => error,
  );

/** Repeats a call until it succeeds. Returns the number of calls, or rejects after so many. */
async function callsUntilAnswered(client: CoinServiceCalls, atMost: number): Promise<number> {
  for (let calls = 1; ; calls += 1) {
    const answered = await client.getInventoryCount().then(
      () => true,
      () => false,
    );
    if (answered) return calls;
    if (calls === atMost) throw new Error(`No answer to ${atMost} calls.`);
  }
}

describe('a connection', () => {
  let network: Network;
  beforeEach(async () => {
    network = await Network.start(service.address);
  });
  afterEach(() => network.stop());

  if (IS_FULL_RUN) {
    test('that is dropped without a word is replaced, and other clients do not wait for it', async () => {
      const client = connect(network.address, { timeoutMs: SHORT_MS });
      await client.getInventoryCount();
      network.dropConnections();
      const first = errorOf(client.getInventoryCount());
      // Another client of the process has a connection of its own.
      await expect(connect(network.address).getInventoryCount()).resolves.toMatchObject(STOCK);
      expect(await first).toMatchObject({ name: 'CoinServiceError', reason: 'DEADLINE_EXCEEDED' });
      await callsUntilAnswered(client, 8);
      expect(network.accepted.length).toBeGreaterThan(2);
    });

    test('to a listener that says nothing is given up, and closed', async () => {
      network.passes = false;
      const client = connect(network.address, { timeoutMs: SHORT_MS });
      await errorOf(client.getInventoryCount());
      network.passes = true;
      await callsUntilAnswered(client, 8);
      while (network.open > 1) await setTimeout(20);
      expect(network.accepted.length).toBeGreaterThan(1);
    });

    test('that is given up loses no call that waits on it', async () => {
      const client = connect(network.address);
      await client.getInventoryCount();
      network.hold();
      const patient = client.getInventoryCount({ timeoutMs: DAY_MS });
      expect(await errorOf(client.getInventoryCount({ timeoutMs: 5_500 }))).toMatchObject({ code: 4 });
      await client.getInventoryCount();
      expect(network.accepted).toHaveLength(2);
      network.release();
      await expect(patient).resolves.toMatchObject(STOCK);
      // The first one is not needed any more.
      while (network.open > 1) await setTimeout(20);
    });

    test('on which other calls are answered is kept when one ends by its deadline', async () => {
      const released = Promise.withResolvers<void>();
      service.before = ({ metadata }) =>
        metadata.get('authorization')[0] === 'Bearer slow' ? released.promise : undefined;
      let token = 'slow';
      const client = connect(network.address, { token: () => token });
      const slow = errorOf(client.getInventoryCount({ timeoutMs: 5_500 }));
      token = 'fast';
      let isOver = false;
      const answering = (async () => {
        while (!isOver) await client.getInventoryCount();
      })();
      expect(await slow).toMatchObject({ reason: 'DEADLINE_EXCEEDED' });
      isOver = true;
      await answering;
      await client.getInventoryCount();
      expect(network.accepted).toHaveLength(1);
      released.resolve();
    });
  }

  test('survives calls whose deadlines are shorter than its handshake', async () => {
    network.passes = false;
    const client = connect(network.address);
    for (let call = 0; call < 10; call += 1) await errorOf(client.getInventoryCount({ timeoutMs: 10 }));
    expect(network.accepted).toHaveLength(1);
  });

  test('is used by both services, and is closed once', async () => {
    const client = connect(network.address);
    await client.getInventoryCount();
    expect(await errorOf(client.purgeStale({ maxAgeDays: 30 }))).toMatchObject({ code: status.UNIMPLEMENTED });
    expect(network.accepted).toHaveLength(1);
    client.close();
    while (network.open > 0) await setTimeout(20);
    const closed = await errorOf(client.getInventoryCount());
    expect(closed).toBeInstanceOf(CoinServiceError);
    expect(closed).toMatchObject({ reason: 'CANCELLED', message: expect.stringContaining('not sent') });
  });
});

describe('a proxy in the environment', () => {
  const NAMES = ['http_proxy', 'https_proxy', 'grpc_proxy', 'no_proxy', 'no_grpc_proxy'] as const;
  const before = NAMES.map((name) => [name, process.env[name]] as const);
  beforeEach(() => {
    for (const name of NAMES) delete process.env[name];
  });
  afterAll(() => {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  });

  test.each(['http_proxy', 'https_proxy', 'grpc_proxy'])('(%s) is not asked for loopback', async (name) => {
    process.env[name] = 'http://127.0.0.1:9';
    const port = service.address.split(':')[1];
    for (const host of ['127.0.0.1', 'localhost', 'dns:localhost', 'dns:///localhost', 'ipv4:127.0.0.1']) {
      await expect(connect(`${host}:${port}`).getInventoryCount()).resolves.toMatchObject(STOCK);
    }
  });

  test('is asked for other machines', async () => {
    const asked = Promise.withResolvers<string>();
    const proxy = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', (bytes) => {
        asked.resolve(String(bytes).split('\r\n')[0] ?? '');
        socket.destroy();
      });
    }).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    process.env.http_proxy = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    const call = errorOf(connect('localhost.example:50051').getInventoryCount());
    expect(await asked.promise).toBe('CONNECT localhost.example:50051 HTTP/1.1');
    expect(await call).toBeInstanceOf(CoinServiceError);
    proxy.close();
  });
});

test.each(['', undefined, 50051])('an address must be text: %p is refused', (address) => {
  expect(() => connect(address as string)).toThrow(
    expect.objectContaining({
      name: 'CoinServiceError',
      fieldViolations: [expect.objectContaining({ field: 'address' })],
    }),
  );
});

describe('a deadline', () => {
  test.each([24, 25, 30, 49, 90, 3650].map((days) => days * DAY_MS).concat(2 ** 31, 8.64e15, 2 ** 53 - 1, Infinity))(
    'of %p ms is far away',
    async (timeoutMs) => {
      await expect(connect(service.address, { timeoutMs }).getInventoryCount()).resolves.toMatchObject(STOCK);
      await expect(connect(service.address).getInventoryCount({ timeoutMs })).resolves.toMatchObject(STOCK);
    },
  );

  test.each([0, -1, Number.NaN, -Infinity, 'soon'])('of %p ms is refused', async (value) => {
    const timeoutMs = value as number;
    const refusal = { name: 'CoinServiceError', reason: 'INVALID_FIELD', fieldViolations: [{ field: 'timeoutMs' }] };
    expect(() => connect(service.address, { timeoutMs })).toThrow(expect.objectContaining({ reason: 'INVALID_FIELD' }));
    expect(await errorOf(connect(service.address).getInventoryCount({ timeoutMs }))).toMatchObject(refusal);
    expect(service.tokens).toStrictEqual([]);
  });
});

describe('a token', () => {
  const SECRET = 'eyJhbGciOiJFZERTQSJ9.c2VjcmV0.c2lnbmF0dXJl';
  const BAD: [string, unknown][] = [
    ['a line end', `${SECRET}\n`],
    ['CR LF', `${SECRET}\r\n`],
    ['a line end in front', `\n${SECRET}`],
    ['a letter that is not ASCII', `é${SECRET}`],
    ['a zero byte', `${SECRET}\0`],
    ['the word Bearer', `Bearer ${SECRET}`],
    ['no text', ''],
    ['bytes', Buffer.from(SECRET)],
    ['nothing', undefined],
  ];

  test.each(BAD)('with %s is refused by name, unsent and unquoted', async (_, token) => {
    const client = connect(service.address, { token: () => token as string });
    const calls = [
      client.getInventoryCount(),
      client.uploadCoins({}),
      client.fetchCoins({}),
      client.batchFetchCoins({}),
      client.reconcileCoins({}),
      client.purgeStale({}),
      client.hardDeleteFetched({}),
      client.deleteUser({}),
    ];
    for (const error of await Promise.all(calls.map(errorOf))) {
      expect(error).toBeInstanceOf(CoinServiceError);
      expect(error).toMatchObject({ code: status.UNAUTHENTICATED, reason: 'TOKEN_INVALID' });
      expect(inspect(error, { depth: 9, showHidden: true })).not.toMatch(/eyJ|c2VjcmV0|signature/);
    }
    expect(service.tokens).toStrictEqual([]);
  });

  test('of any other kind is sent, and an error of its function is passed on', async () => {
    const good = [SECRET, 'jwt', 'a-b_c~d+e/f==', '0'];
    for (const token of good) await connect(service.address, { token: async () => token }).getInventoryCount();
    expect(service.tokens).toStrictEqual(good.map((token) => `Bearer ${token}`));
    const offline = new Error('offline');
    expect(await errorOf(connect(service.address, { token: () => Promise.reject(offline) }).getInventoryCount())).toBe(
      offline,
    );
    expect(() => connect(service.address, { token: SECRET as never })).toThrow(
      expect.objectContaining({ name: 'CoinServiceError', message: expect.not.stringContaining(SECRET) }),
    );
  });
});

test.each([
  ['no message', Buffer.from([255, 255, 255])],
  [
    'a wait of 292 billion years',
    Buffer.from(
      `08041a0261621a3e0a28747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e5265747279496e666f12120a1008ffffffffffffffff7f`,
      'hex',
    ),
  ],
])('an error whose details hold %s is still an error of the service', async (_, details) => {
  service.before = () => {
    throw { code: status.UNAVAILABLE, details: 'no', metadata: withDetails(details) };
  };
  const error = await errorOf(connect(service.address).getInventoryCount());
  expect(error).toBeInstanceOf(CoinServiceError);
  expect(error).toMatchObject({
    code: status.UNAVAILABLE,
    reason: 'UNAVAILABLE',
    message: 'no',
    retryAfterMs: undefined,
  });
});

test('an error has the id of its call, if the service answered it', async () => {
  service.before = () => {
    const metadata = new Metadata();
    metadata.set('aqm-call-id', '5f0c2ab19d3e7f64');
    throw { code: status.UNAVAILABLE, details: 'no', metadata };
  };
  expect(await errorOf(connect(service.address).getInventoryCount())).toMatchObject({ callId: '5f0c2ab19d3e7f64' });
  service.before = () => {
    throw { code: status.UNAVAILABLE, details: 'no' };
  };
  expect(await errorOf(connect(service.address).getInventoryCount())).toMatchObject({ callId: undefined });
});
