import { randomBytes, randomUUID } from 'node:crypto';
import { type DescField, type DescMessage, fromJson, getOption, type JsonObject, toBinary } from '@bufbuild/protobuf';
import { createValidator } from '@bufbuild/protovalidate';
import { type FieldRules, field as fieldRules, Ignore } from '@bufbuild/protovalidate/gen/buf/validate/validate_pb.js';
import { Client, credentials } from '@grpc/grpc-js';
import type { ItemError } from '../../../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES } from '../../../../gen/aqm/coin/v1/coin_categories';
import { BatchFetchCoinsResponse, FetchDeviceCoinsResponse } from '../../../../gen/aqm/coin/v1/coin_service';
import { bearer, CallError, callBytes } from '../../../../testkit/call';
import { startService, type TestService } from '../../../../testkit/service';
import { registryOfContract } from './contract';

/** One valid request of each method, as protobuf's JSON. */
const VALID: Readonly<Record<string, JsonObject>> = {
  UploadCoins: { coins: [coin(3)], databaseEpoch: '' },
  FetchCoins: fetch(),
  BatchFetchCoins: { requests: [fetch()] },
  FetchDeviceCoins: { requests: [{ ...fetch(), deviceIds: [randomUUID()] }] },
  GetInventoryCount: {},
  ReconcileCoins: { coinCategory: 3, keyIds: [randomUUID()] },
  ListDevices: {},
  RemoveDevice: { deviceId: randomUUID() },
  PurgeStale: {},
  HardDeleteFetched: {},
  DeleteUser: { userId: randomUUID() },
};

const NIL = '00000000-0000-0000-0000-000000000000';

/** Fields whose every value is allowed, or that a rule of their message covers. */
const WITHOUT_RULE = [
  'Coin.public_key',
  'Coin.signature',
  'DeviceCoinsRequest.allow_lower_categories',
  'FetchCoinsRequest.allow_lower_categories',
  'ReconcileCoinsRequest.complete',
];

/** A request beside or on a bound. */
interface Edge {
  readonly name: string;
  readonly request: JsonObject;
  readonly isValid: boolean;
}

let service: TestService;
let client: Client;
let token: string;

beforeAll(async () => {
  service = await startService({}, { replicas: 1 });
  token = (await service.user({ isAdmin: true })).token;
  client = new Client(service.address, credentials.createInsecure());
});
afterAll(async () => {
  client.close();
  await service.stop();
});

const registry = registryOfContract();
const methods = ['aqm.coin.v1.CoinService', 'aqm.coin.v1.CoinAdminService']
  .flatMap((name) => registry.getService(name)?.methods ?? [])
  .map((method) => ({ name: method.name, path: `/${method.parent.typeName}/${method.name}`, input: method.input }));

test.each(methods)(
  'the field rules and the service agree about every bound of $name',
  async ({ name, path, input }) => {
    const validator = createValidator();
    const valid = VALID[name];
    expect(valid).toBeDefined();
    const edges = [{ name: 'a valid request', request: valid ?? {}, isValid: true }, ...edgesOf(input, valid ?? {})];
    const verdicts = await Promise.all(
      edges.map(async (edge) => {
        const message = fromJson(input, edge.request);
        const result = validator.validate(input, message);
        if (result.kind === 'error') throw result.error;
        const isAccepted = await accepts(path, toBinary(input, message));
        return { edge: edge.name, rules: result.kind === 'valid', service: isAccepted };
      }),
    );
    expect(verdicts).toEqual(edges.map((edge) => ({ edge: edge.name, rules: edge.isValid, service: edge.isValid })));
  },
);

test('a field without a rule is one whose every value is allowed', () => {
  const found = new Set<string>();
  const visit = (message: DescMessage): void => {
    for (const each of message.fields) {
      if (getOption(each, fieldRules).type.case === undefined) found.add(`${message.name}.${each.name}`);
      if (each.fieldKind === 'list' && each.listKind === 'message') visit(each.message);
    }
  };
  for (const { input } of methods) visit(input);
  expect([...found].sort()).toEqual(WITHOUT_RULE);
});

/** The answers whose items fail alone. */
const ITEMS: Readonly<Record<string, { decode(bytes: Uint8Array): { results: { error?: ItemError | undefined }[] } }>> =
  {
    BatchFetchCoins: BatchFetchCoinsResponse,
    FetchDeviceCoins: FetchDeviceCoinsResponse,
  };

/** Returns true unless the service refuses the request because of a field. */
async function accepts(path: string, request: Uint8Array): Promise<boolean> {
  try {
    const answer = await callBytes(client, path, request, bearer(token));
    const { results } = ITEMS[path.split('/').at(-1) ?? '']?.decode(answer) ?? { results: [] };
    return results.every(({ error }) => error?.reason !== 'INVALID_FIELD');
  } catch (error) {
    if (error instanceof CallError && error.reason === 'INVALID_FIELD') return false;
    // A random epoch is allowed, and is not the present one.
    if (error instanceof CallError && error.reason === 'EPOCH_CHANGED') return true;
    throw error;
  }
}

/** Returns the requests on both sides of every bound of a message that is part of a valid request. */
function edgesOf(message: DescMessage, valid: JsonObject): Edge[] {
  const edges = message.fields.flatMap((each) => {
    const name = each.jsonName;
    const { type, ignore } = getOption(each, fieldRules);
    const own = type.case === undefined ? [] : valuesOf(each, type, ignore, valid[name]);
    const edgesOfField = own.map(({ value, isValid }) => ({
      name: `${each.name}: ${JSON.stringify(value).slice(0, 60)}${Array.isArray(value) ? ` (${value.length})` : ''}`,
      request: { ...valid, [name]: value },
      isValid,
    }));
    if (each.fieldKind !== 'list' || each.listKind !== 'message') return edgesOfField;
    const [element] = valid[name] as JsonObject[];
    const nested = edgesOf(each.message, element ?? {}).map((edge) => ({
      ...edge,
      name: `${each.name}[0].${edge.name}`,
      request: { ...valid, [name]: [edge.request] },
    }));
    return [...edgesOfField, ...nested];
  });
  return [...edges, ...(MESSAGE_RULES[message.name]?.(valid) ?? [])];
}

/** Returns values of a field on both sides of each bound of its rule. */
function valuesOf(each: DescField, type: FieldRules['type'], ignore: Ignore, valid: unknown) {
  const inside = (...values: JsonObject[string][]) => values.map((value) => ({ value, isValid: true }));
  const outside = (...values: JsonObject[string][]) => values.map((value) => ({ value, isValid: false }));
  switch (type.case) {
    case 'int32': {
      const { greaterThan, lessThan } = type.value;
      if (greaterThan.case !== 'gte' || lessThan.case !== 'lte') throw new Error(`${each} has another kind of bound`);
      return [...inside(greaterThan.value, lessThan.value), ...outside(greaterThan.value - 1, lessThan.value + 1)];
    }
    case 'repeated': {
      const min = Number(type.value.minItems ?? 0n);
      const max = Number(type.value.maxItems);
      const [element] = valid as JsonObject[];
      const rules = type.value.items;
      const text = rules?.type.case === 'string' ? rules.type.value : undefined;
      const list = (size: number) => Array.from({ length: size }, () => (text ? randomUUID() : (element ?? {})));
      const id = randomUUID();
      const items = text
        ? [
            ...inside([randomUUID()]),
            ...outside(['1'], ...text.notIn.map((value) => [value])),
            { value: [''], isValid: rules?.ignore === Ignore.IF_ZERO_VALUE },
            { value: [id, id], isValid: !type.value.unique },
          ]
        : [];
      return [
        ...inside(list(min), list(max)),
        ...outside(list(max + 1), ...(min > 0 ? [list(min - 1)] : [])),
        ...items,
      ];
    }
    case 'string': {
      expect(type.value.wellKnown.case).toBe('uuid');
      const id = randomUUID();
      const isOptional = ignore === Ignore.IF_ZERO_VALUE;
      // In an upload a coin's device is that of the request, which is not tried here.
      const others = each.parent.name === 'Coin' && each.name === 'device_id' ? [] : [id, id.toUpperCase()];
      return [
        ...inside(...others, ...(type.value.notIn.includes(NIL) ? [] : [NIL])),
        ...outside(...type.value.notIn),
        ...outside(id.replaceAll('-', ''), `${id}0`, id.slice(1), `{${id}}`, 'g'.repeat(36)),
        { value: '', isValid: isOptional },
      ];
    }
    case 'enum': {
      const numbers = each.enum?.values.map(({ number }) => number) ?? [];
      // The categories of a coin are tried together with its sizes.
      const allowed = each.parent.name === 'Coin' ? [] : numbers.filter((number) => number !== 0);
      return [...inside(...allowed), ...outside(0, Math.max(...numbers) + 1, -1)];
    }
    case 'timestamp':
      return [...inside('1970-01-01T00:00:00Z'), ...outside('1969-12-31T23:59:59.999Z', '0001-01-01T00:00:00Z')];
    default:
      throw new Error(`There is no test for the rule "${type.case}" of ${each}.`);
  }
}

/** Requests on both sides of the rules that concern several fields of a message. */
const MESSAGE_RULES: Readonly<Record<string, (valid: JsonObject) => Edge[]>> = {
  Coin: () =>
    COIN_CATEGORIES.flatMap(({ category, name, publicKeySize, signatureSize }) =>
      [-1, 0, 1].flatMap((key) =>
        [-1, 0, 1].map((signature) => ({
          name: `${name} with sizes ${key}, ${signature}`,
          request: coin(category, publicKeySize + key, signatureSize + signature),
          isValid: key === 0 && signature === 0,
        })),
      ),
    ),
  ReconcileCoinsRequest: (valid) => [
    { name: 'complete without listed_at', request: { ...valid, complete: true }, isValid: false },
    {
      name: 'complete with listed_at',
      request: { ...valid, complete: true, listedAt: '2020-01-01T00:00:00Z' },
      isValid: true,
    },
  ],
};

function coin(coinCategory: number, publicKeySize = 32, signatureSize = 64): JsonObject {
  return {
    keyId: randomUUID(),
    coinCategory,
    publicKey: randomBytes(publicKeySize).toString('base64'),
    signature: randomBytes(signatureSize).toString('base64'),
  };
}

function fetch(): JsonObject {
  return { targetUserId: randomUUID(), coinCategory: 3, count: 1 };
}
