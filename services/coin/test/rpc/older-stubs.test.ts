import { randomUUID } from 'node:crypto';
import { fromBinary, fromJson, type JsonObject, toBinary, toJson } from '@bufbuild/protobuf';
import { Client, credentials } from '@grpc/grpc-js';
import { bearer, callBytes } from '../../../../testkit/call';
import { BRONZE, ids, mint } from '../../../../testkit/coins';
import { startService, type TestService } from '../../../../testkit/service';
import type { User } from '../../../../testkit/user';
import { registryOfContract } from './contract';

/** The contract as a client knows it whose stubs were generated before there were devices. */
const registry = registryOfContract(({ file }) => {
  for (const { messageType } of file) {
    for (const message of messageType) message.field = message.field.filter(({ name }) => name !== 'device_id');
  }
});

let service: TestService;
let client: Client;
beforeAll(async () => {
  service = await startService({}, { replicas: 1 });
  client = new Client(service.address, credentials.createInsecure());
});
afterAll(async () => {
  client.close();
  await service.stop();
});

/** Makes a call with the older stubs, and returns what they decode of the answer. */
async function send({ token }: User, method: string, request: JsonObject): Promise<JsonObject> {
  const input = registry.getMessage(`aqm.coin.v1.${method}Request`);
  const output = registry.getMessage(`aqm.coin.v1.${method}Response`);
  if (!input || !output) throw new Error(`The contract has no method ${method}.`);
  const bytes = toBinary(input, fromJson(input, request));
  const answer = await callBytes(client, `/aqm.coin.v1.CoinService/${method}`, bytes, bearer(token));
  return toJson(output, fromBinary(output, answer)) as JsonObject;
}

/** Creates a user who has coins on the unnamed device and on a phone, and an upload of the older stubs. */
async function createOwner() {
  const id = randomUUID();
  const phone = randomUUID();
  const [owner, onPhone] = await Promise.all([service.user({ id }), service.user({ id, deviceId: phone })]);
  const [unnamedCoins, phoneCoins] = [mint(2), mint(3)];
  await owner.upload(unnamedCoins);
  await owner.upload(phoneCoins, '', phone);
  return { owner, onPhone, phone, unnamedCoins, phoneCoins };
}

test('without a device in the token, older stubs count, fetch and retire coins of the unnamed device only', async () => {
  const { owner, phone, unnamedCoins } = await createOwner();
  const alice = await service.user();
  expect(await send(owner, 'GetInventoryCount', {})).toMatchObject({ available: { bronze: 2 } });

  const fetch = { targetUserId: owner.id, coinCategory: 'COIN_CATEGORY_BRONZE', count: 20 };
  const { coins } = await send(alice, 'FetchCoins', fetch);
  expect(ids(coins as { keyId: string }[] & JsonObject[])).toEqual(ids(unnamedCoins));

  await owner.upload(mint(1));
  const { serverTime } = await send(owner, 'GetInventoryCount', {});
  const nothing = { coinCategory: 'COIN_CATEGORY_BRONZE', complete: true, listedAt: serverTime ?? '' };
  expect(await send(owner, 'ReconcileCoins', nothing)).toMatchObject({ retiredCount: 1 });
  expect((await owner.count(phone)).available).toMatchObject({ bronze: 3 });
});

test('with a device in the token, older stubs act for that device', async () => {
  const { owner, onPhone, phone, unnamedCoins } = await createOwner();
  const [coin] = mint(1);
  const { keyId = '', publicKey, signature } = coin ?? {};
  const bytes = (value: Uint8Array | undefined) => Buffer.from(value ?? []).toString('base64');
  const upload = { keyId, coinCategory: BRONZE, publicKey: bytes(publicKey), signature: bytes(signature) };
  const answer = await send(onPhone, 'UploadCoins', { coins: [upload] });
  expect(answer).toMatchObject({ insertedCount: 1, available: { bronze: 4 } });

  const { serverTime } = await send(onPhone, 'GetInventoryCount', {});
  const nothing = { coinCategory: 'COIN_CATEGORY_BRONZE', complete: true, listedAt: serverTime ?? '' };
  expect(await send(onPhone, 'ReconcileCoins', nothing)).toMatchObject({ retiredCount: 4 });
  expect((await owner.count(phone)).available).toMatchObject({ bronze: 0 });
  expect((await owner.count()).available).toMatchObject({ bronze: unnamedCoins.length });
});
