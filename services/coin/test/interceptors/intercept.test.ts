import { connect } from 'node:http2';
import { Metadata, Server, ServerCredentials, type StatusObject, status } from '@grpc/grpc-js';
import { CoinServiceService } from '../../../../gen/aqm/coin/v1/coin_service';
import { TokenMissingError } from '../../errors';
import { type Interception, intercept } from '../../interceptors/intercept';

const REFUSED: StatusObject = { code: status.UNAVAILABLE, details: 'not now', metadata: new Metadata() };
const ALSO_REFUSED: StatusObject = { ...REFUSED, code: status.RESOURCE_EXHAUSTED };
const { path } = CoinServiceService.getInventoryCount;

/**
 * Makes a call that never sends its message, or only with `message`. Returns its gRPC code, and what the observer and
 * the method were called with.
 */
async function callWithoutMessage(interception: Partial<Interception>, message?: Buffer) {
  const seen: unknown[] = [];
  const server = new Server({
    interceptors: [
      intercept({
        observer: (observed) => (outcome) => seen.push(observed, outcome.code),
        admissionChecks: [],
        authenticate: () => undefined,
        ...interception,
      }),
    ],
  });
  server.addService(
    { getInventoryCount: CoinServiceService.getInventoryCount },
    { getInventoryCount: () => seen.push('called') },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  const session = connect(`http://127.0.0.1:${port}`);
  try {
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    if (message) stream.end(message);
    const code = await new Promise((resolve) => stream.once('response', (headers) => resolve(headers['grpc-status'])));
    // When the server answers this, it has done all that it does about the message.
    await new Promise((resolve) => session.ping(resolve));
    return { code: Number(code), seen };
  } finally {
    session.destroy();
    server.forceShutdown();
  }
}

test('the first failing admission check refuses a call before its message arrives, and the outcome is observed once', async () => {
  const authenticate = jest.fn(() => undefined);
  const admissionChecks = [() => undefined, () => REFUSED, () => ALSO_REFUSED];
  const { code, seen } = await callWithoutMessage({ admissionChecks, authenticate });
  expect(code).toBe(status.UNAVAILABLE);
  expect(seen).toEqual([path, status.UNAVAILABLE]);
  expect(authenticate).not.toHaveBeenCalled();
});

test('the outcome of a refused call is observed once, also if its message arrives after all', async () => {
  const empty = Buffer.alloc(5);
  const { code, seen } = await callWithoutMessage({ admissionChecks: [() => REFUSED] }, empty);
  expect(code).toBe(status.UNAVAILABLE);
  expect(seen).toEqual([path, status.UNAVAILABLE]);
});

test('a call that fails authentication is refused before its message arrives, and the outcome is observed once', async () => {
  const authenticate = () => Promise.reject(new TokenMissingError());
  const { code, seen } = await callWithoutMessage({ authenticate });
  expect(code).toBe(status.UNAUTHENTICATED);
  expect(seen).toEqual([path, status.UNAUTHENTICATED]);
});
