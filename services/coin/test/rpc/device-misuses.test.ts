import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromBinary, fromJson, type JsonObject, toBinary, toJson } from '@bufbuild/protobuf';
import { Client, credentials } from '@grpc/grpc-js';
import { sql } from 'kysely';
import { bearer, CallError, callBytes } from '../../../../testkit/call';
import { ROOT } from '../../../../testkit/root';
import { startService, type TestService } from '../../../../testkit/service';
import { registryOfContract } from './contract';

const DOCUMENT = join(ROOT, 'docs/misuses.md');
const HEADING = '## Device ids in calls';
const MAX_DEVICES = 50;
const NIL = '00000000-0000-0000-0000-000000000000';

/** Words of the table that stand for ids. */
const NAMES = ['BOB', 'CROWD', 'PHONE', 'LAPTOP', 'LOST', 'NEW', 'REQUEST', 'KEY'] as const;
type Name = (typeof NAMES)[number];
const ids = Object.fromEntries(NAMES.map((name) => [name, randomUUID()])) as Record<Name, string>;

/** One mistake, and whose token the call has; of PHONE it is one of Bob that names the device. */
interface Misuse {
  readonly what: string;
  readonly by?: 'CROWD' | 'PHONE';
  readonly method: string;
  /** The request as JSON. Names stand for ids, and COIN for the fields of a new coin. */
  readonly request: string;
  /** The reason of the error of the call or of its item; undefined: the call is answered. */
  readonly reason?: string;
}

const item = (rest: string) =>
  `{"requests": [{"target_user_id": "BOB", "coin_category": "COIN_CATEGORY_BRONZE", ${rest}}]}`;
const MISUSES: readonly Misuse[] = [
  ...[
    ['the nil UUID', NIL],
    ['braces', '{PHONE}'],
    ['a URN', 'urn:uuid:PHONE'],
    ['a name', 'phone'],
  ].map(([what = '', id]) => {
    return {
      what,
      method: 'UploadCoins',
      request: `{"coins": [{COIN}], "device_id": "${id}"}`,
      reason: 'INVALID_FIELD',
    };
  }),
  {
    what: 'a coin of another device than the request',
    method: 'UploadCoins',
    request: '{"coins": [{COIN, "device_id": "LAPTOP"}], "device_id": "PHONE"}',
    reason: 'INVALID_FIELD',
  },
  ...[
    'UploadCoins {"coins": [{COIN}], ',
    'GetInventoryCount {',
    'ReconcileCoins {"coin_category": "COIN_CATEGORY_BRONZE", ',
  ].map((call) => {
    const [method = '', start] = call.split(/ (.*)/s);
    const request = `${start}"device_id": "LAPTOP"}`;
    return { what: 'the token of another device', by: 'PHONE' as const, method, request, reason: 'DEVICE_MISMATCH' };
  }),
  {
    what: 'an upload of a removed device',
    method: 'UploadCoins',
    request: '{"coins": [{COIN}], "device_id": "LOST"}',
    reason: 'DEVICE_REMOVED',
  },
  {
    what: 'one device more than a user may have',
    by: 'CROWD',
    method: 'UploadCoins',
    request: '{"coins": [{COIN}], "device_id": "NEW"}',
    reason: 'TOO_MANY_DEVICES',
  },
  {
    what: 'the key_id of a coin of another device',
    method: 'UploadCoins',
    request: '{"coins": [{COIN, "key_id": "KEY"}], "device_id": "LAPTOP"}',
  },
  { what: 'removal of the unnamed device', method: 'RemoveDevice', request: '{}', reason: 'INVALID_FIELD' },
  {
    what: 'a fetch from a removed device',
    method: 'FetchDeviceCoins',
    request: item('"count": 1, "device_ids": ["LOST"]'),
  },
  {
    what: 'a fetch from a device that does not exist',
    method: 'FetchDeviceCoins',
    request: item('"count": 1, "device_ids": ["NEW"]'),
  },
  {
    what: 'upper case, which is allowed',
    method: 'FetchDeviceCoins',
    request: item('"device_ids": ["UPPER_PHONE"]'),
  },
  {
    what: 'a device named twice, in upper case too',
    method: 'FetchDeviceCoins',
    request: item('"count": 1, "device_ids": ["PHONE", "UPPER_PHONE"]'),
    reason: 'INVALID_FIELD',
  },
  {
    what: 'the nil UUID for the unnamed device',
    method: 'FetchDeviceCoins',
    request: item(`"count": 1, "device_ids": ["${NIL}"]`),
    reason: 'INVALID_FIELD',
  },
  {
    what: 'more coins than one fetch may have',
    method: 'FetchDeviceCoins',
    request: item('"count": 21'),
    reason: 'INVALID_FIELD',
  },
  {
    what: 'the request_id of a fetch of one device',
    method: 'FetchDeviceCoins',
    request: item('"count": 1, "request_id": "REQUEST"'),
    reason: 'REQUEST_ID_REUSED',
  },
  { what: 'no items', method: 'FetchDeviceCoins', request: '{"requests": []}', reason: 'INVALID_FIELD' },
];

const registry = registryOfContract();
let service: TestService;
let client: Client;
const tokens = new Map<string | undefined, string>();

beforeAll(async () => {
  service = await startService({ maxDevices: MAX_DEVICES }, { replicas: 1 });
  client = new Client(service.address, credentials.createInsecure());
  tokens.set(undefined, (await service.user({ id: ids.BOB })).token);
  tokens.set('PHONE', (await service.user({ id: ids.BOB, deviceId: ids.PHONE })).token);
  tokens.set('CROWD', (await service.user({ id: ids.CROWD })).token);
  await send(undefined, 'UploadCoins', '{"coins": [{COIN}, {COIN, "key_id": "KEY"}], "device_id": "PHONE"}');
  await send(undefined, 'UploadCoins', '{"coins": [{COIN}], "device_id": "LAPTOP"}');
  await send(undefined, 'RemoveDevice', '{"device_id": "LOST"}');
  const fetch =
    '{"target_user_id": "BOB", "coin_category": "COIN_CATEGORY_BRONZE", "count": 1, "device_id": "PHONE", "request_id": "REQUEST"}';
  await send(undefined, 'FetchCoins', fetch);
  for (let count = 0; count < MAX_DEVICES; count += 1) {
    await send('CROWD', 'UploadCoins', `{"coins": [{COIN}], "device_id": "${randomUUID()}"}`);
  }
});
afterAll(async () => {
  client.close();
  await service.stop();
});

function newCoin(): string {
  const [key, signature] = [randomBytes(32), randomBytes(64)].map((bytes) => `"${bytes.toString('base64')}"`);
  return `"key_id": "${randomUUID()}", "coin_category": "COIN_CATEGORY_BRONZE", "public_key": ${key}, "signature": ${signature}`;
}

/** Sends a request of the table. Returns the answer as JSON. */
async function send(by: string | undefined, method: string, request: string): Promise<JsonObject> {
  const input = registry.getMessage(`aqm.coin.v1.${method}Request`);
  const output = registry.getMessage(`aqm.coin.v1.${method}Response`);
  if (!input || !output) throw new Error(`The contract has no method ${method}.`);
  const text = request
    .replaceAll('UPPER_PHONE', ids.PHONE.toUpperCase())
    .replaceAll(/\bCOIN\b/g, newCoin)
    .replaceAll(new RegExp(`\\b(${NAMES.join('|')})\\b`, 'g'), (name) => ids[name as Name]);
  const bytes = toBinary(input, fromJson(input, JSON.parse(text)));
  const answer = await callBytes(client, `/aqm.coin.v1.CoinService/${method}`, bytes, bearer(tokens.get(by)));
  return toJson(output, fromBinary(output, answer), { useProtoFieldName: true }) as JsonObject;
}

/** Returns the code, reason and message of an error; undefined if there is none. */
function errorOf(failed: unknown): { reason: string; text: string } | undefined {
  if (failed instanceof CallError) return { reason: failed.reason, text: failed.message };
  const { results: [result] = [] } = failed as { results?: { error?: { reason: string; message: string } }[] };
  return result?.error && { reason: result.error.reason, text: `error of the item: ${result.error.message}` };
}

/** Returns a hash over every row of every table. */
async function contents(): Promise<unknown> {
  const tables = ['coin', 'coin_stock', 'coin_fetch', 'coin_device'].map(
    (table) => sql`(SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM ${sql.table(table)} t)`,
  );
  return (await sql`SELECT ${sql.join(tables)}`.execute(service.database.db)).rows;
}

/** Writes names in the place of ids, which differ from run to run. */
function normalise(text: string): string {
  const named = NAMES.reduce((written, name) => written.replaceAll(ids[name], name), text);
  return named.replaceAll(/"database_epoch":"[0-9a-f-]+"/g, '"database_epoch":"EPOCH"');
}

test.each(MISUSES)('$what: $method $request', async ({ by, method, request, reason }) => {
  const before = await contents();
  const answer = await send(by, method, request).catch((error: unknown) => error);
  expect(errorOf(answer)?.reason).toBe(reason);
  if (reason !== undefined) expect(await contents()).toEqual(before);
});

test('docs/misuses.md has what each call was answered', async () => {
  const rows: string[] = [];
  for (const { what, by, method, request } of MISUSES) {
    const answer = await send(by, method, request).catch((error: unknown) => error);
    const failed = errorOf(answer);
    const said = failed ? `\`${failed.reason}\`: ${failed.text}` : `answered: \`${JSON.stringify(answer)}\``;
    rows.push(`| ${[what, by ?? 'BOB', `\`${method} ${request}\``, normalise(said)].join(' | ')} |`);
  }
  const document = readFileSync(DOCUMENT, 'utf8');
  const start = document.indexOf(HEADING);
  const head = document.slice(0, document.indexOf('| --- ', start));
  const written = `${head}| --- | --- | --- | --- |\n${rows.join('\n')}\n`;
  if (process.env.UPDATE_MISUSES) writeFileSync(DOCUMENT, written);
  else expect(document).toBe(written);
});
