import { randomUUID } from 'node:crypto';
import { FetchCoinsRequest, FetchCoinsResponse } from '../../gen/aqm/coin/v1/coin_service';
import { BRONZE, GOLD, ids, mint } from '../../testkit/coins';
import { startService, type TestService } from '../../testkit/service';
import { type Answer, Http2User } from '../users/http2-user';

let service: TestService;
const open: Http2User[] = [];

beforeAll(async () => {
  service = await startService();
});

afterAll(async () => {
  for (const user of open) user.close();
  await service.stop();
});

async function connect(token: string): Promise<Http2User> {
  const user = await Http2User.connect(Number(service.address.split(':')[1]), '127.0.0.2', token);
  open.push(user);
  return user;
}

function fetch(user: Http2User, targetUserId: string, coinCategory = GOLD): Promise<Answer> {
  const request = FetchCoinsRequest.create({ targetUserId, coinCategory, count: 1 });
  return new Promise((resolve) => user.call(Buffer.from(FetchCoinsRequest.encode(request).finish()), resolve));
}

test('a user of the load generator gets the coins of a target, several at once on one connection, and then nothing', async () => {
  const target = await service.user();
  const coins = mint(40, GOLD);
  await target.upload(coins);
  const user = await connect((await service.user()).token);
  const answers = await Promise.all(coins.map(() => fetch(user, target.id)));
  expect(answers.map(({ outcome }) => outcome)).toEqual(coins.map(() => 'answered'));
  const got = answers.flatMap(({ message }) => FetchCoinsResponse.decode(message).coins);
  expect(ids(got).sort()).toEqual(ids(coins).sort());
  expect(await fetch(user, target.id)).toEqual({ outcome: 'empty', message: Buffer.alloc(0) });
});

test('a user of the load generator reports how a call failed, and calls again', async () => {
  const stranger = await connect('no token');
  expect((await fetch(stranger, randomUUID())).outcome).toBe('UNAUTHENTICATED');
  const user = await connect((await service.user()).token);
  expect((await fetch(user, 'no id')).outcome).toBe('INVALID_ARGUMENT');
  expect((await fetch(user, randomUUID(), BRONZE)).outcome).toBe('empty');
});

test('a user of the load generator reports a lost connection for every call', async () => {
  const user = await connect((await service.user()).token);
  expect((await fetch(user, randomUUID())).outcome).toBe('empty');
  user.close();
  expect((await fetch(user, randomUUID())).outcome).toBe('connection lost');
  expect(user.isLost).toBe(true);
});
