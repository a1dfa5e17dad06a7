import { BinaryReader } from '@bufbuild/protobuf/wire';
import { Status } from 'nice-grpc-error-details/lib/proto/google/rpc/status';
import { FetchCoinsResponse } from '../../gen/aqm/coin/v1/coin_service';
import { mint } from '../../testkit/coins';
import { withAddedDetail, withAddedFields } from './added-fields';

/** Returns the numbers of a message's fields, and the bytes of its length-delimited fields. */
function fieldsOf(message: Uint8Array): { numbers: number[]; bytes: (number: number) => Uint8Array } {
  const reader = new BinaryReader(message);
  const found = new Map<number, Uint8Array>();
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    found.set(number, reader.skip(type, number));
  }
  const bytes = (number: number) => new BinaryReader(found.get(number) ?? new Uint8Array()).bytes();
  return { numbers: [...found.keys()].sort((a, b) => a - b), bytes };
}

const ADDED = [1000, 1001, 1002, 1003, 1004];

test('an answer with added fields decodes as before, and has them at every depth', () => {
  const answer = { coins: mint(1).map((coin) => ({ ...coin, expireTime: new Date('2030-01-01') })) };
  const plain = FetchCoinsResponse.encode(answer).finish();
  const message = withAddedFields('FetchCoins', Buffer.concat([Buffer.alloc(5), plain])).subarray(5);
  expect(FetchCoinsResponse.decode(message)).toEqual(FetchCoinsResponse.decode(plain));

  const response = fieldsOf(message);
  expect(response.numbers).toEqual([1, ...ADDED]);
  const coin = fieldsOf(response.bytes(1));
  expect(coin.numbers).toEqual([1, 2, 3, 4, 5, ...ADDED]);
  expect(fieldsOf(coin.bytes(5)).numbers).toEqual([1, ...ADDED]);
});

test('a status with an added detail has it before the others', () => {
  const known = { typeUrl: 'type.googleapis.com/google.rpc.ErrorInfo', value: Buffer.from([]) };
  const plain = Status.encode(Status.fromPartial({ code: 14, message: 'no', details: [known] })).finish();
  const { code, message, details } = Status.decode(withAddedDetail(Buffer.from(plain)));
  expect([code, message]).toEqual([14, 'no']);
  expect(details.map(({ typeUrl }) => typeUrl)).toEqual(['type.googleapis.com/aqm.later.Detail', known.typeUrl]);
});
