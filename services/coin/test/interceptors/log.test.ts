import { status } from '@grpc/grpc-js';
import pino from 'pino';
import { LogLines } from '../../../../testkit/log-lines';
import { DatabaseUnavailableError, OverloadedError, TokenMissingError } from '../../errors';
import { CallLog } from '../../interceptors/log';
import { factsOf, toStatus } from '../../rpc/status';

const FETCH = '/aqm.coin.v1.CoinService/FetchCoins';
const UPLOAD = '/aqm.coin.v1.CoinService/UploadCoins';
const SUM = 'calls failed, besides those that have a line of their own';

let lines: LogLines;
let log: CallLog;
const openLog = (level: string) => {
  lines = new LogLines();
  log = new CallLog(pino({ level }, lines), [FETCH, UPLOAD]);
};
beforeEach(() => openLog('info'));
afterEach(() => log.flush());

/** Lets a call fail with an error, or succeed. */
function end(method: string, callId: string, error?: unknown): void {
  const failed = error === undefined ? undefined : toStatus(error);
  log.observer(method, callId)({ code: failed?.code ?? status.OK, failure: failed && factsOf(failed) });
}

test('a call that fails through a fault of the server has a line with its id, code and reason', () => {
  end(FETCH, 'a1', new DatabaseUnavailableError(undefined));
  const durationMs = expect.any(Number);
  const facts = { callId: 'a1', method: FETCH, code: 'UNAVAILABLE', reason: 'DATABASE_UNAVAILABLE', durationMs };
  expect(lines.all).toEqual([
    { level: 40, time: expect.any(Number), pid: expect.anything(), hostname: expect.anything(), msg: 'call', ...facts },
  ]);
});

test('calls that fail through their callers, and calls that succeed, have a line at debug only', () => {
  end(FETCH, 'a1', new TokenMissingError());
  end(FETCH, 'a2');
  expect(lines.all).toEqual([]);
  openLog('debug');
  end(FETCH, 'a1', new TokenMissingError());
  end(FETCH, 'a2');
  expect(lines.all.map(({ callId, code, reason }) => [callId, code, reason])).toEqual([
    ['a1', 'UNAUTHENTICATED', 'TOKEN_MISSING'],
    ['a2', 'OK', undefined],
  ]);
});

test('3,000 calls that an outage fails in one second have one line, the first ones of each method and reason aside', () => {
  for (let calls = 0; calls < 1000; calls += 1) {
    end(FETCH, `a${calls}`, new DatabaseUnavailableError(undefined));
    end(UPLOAD, `b${calls}`, new DatabaseUnavailableError(undefined));
    end(FETCH, `c${calls}`, new OverloadedError());
  }
  log.flush();
  expect(lines.with('call').map(({ callId }) => callId)).toEqual(['a0', 'b0', 'c0']);
  const [sum, ...others] = lines.with(SUM);
  expect(others).toEqual([]);
  expect(sum).toMatchObject({
    level: 40,
    failed: 2997,
    calls: { FetchCoins: { DATABASE_UNAVAILABLE: 999, OVERLOADED: 999 }, UploadCoins: { DATABASE_UNAVAILABLE: 999 } },
  });
});

test('the first failure of the next second has a line of its own again, and a second without further ones has no sum', () => {
  end(FETCH, 'a1', new OverloadedError());
  log.flush();
  end(FETCH, 'a2', new OverloadedError());
  log.flush();
  expect(lines.all.map(({ callId }) => callId)).toEqual(['a1', 'a2']);
});

test('paths that callers make up are one method, so that they cannot fill the memory', () => {
  for (let calls = 0; calls < 100; calls += 1) end(`/made.up/${calls}`, `a${calls}`, new OverloadedError());
  log.flush();
  expect(lines.with('call')).toHaveLength(1);
  expect(lines.with(SUM)).toMatchObject([{ calls: { _OTHER: { OVERLOADED: 99 } } }]);
});

test('several unexpected errors of one second have their stacks in the log, many do not', () => {
  for (let calls = 0; calls < 100; calls += 1) end(FETCH, `a${calls}`, new TypeError(`fault ${calls}`));
  log.flush();
  const unexpected = lines.with('unexpected error');
  expect(unexpected).toHaveLength(10);
  expect(unexpected[9]).toMatchObject({ level: 50, callId: 'a9', code: 'INTERNAL', reason: 'INTERNAL' });
  expect(unexpected[9]?.err).toMatchObject({ message: 'fault 9', stack: expect.stringContaining('log.test') });
  expect(lines.with(SUM)).toMatchObject([{ failed: 90, calls: { FetchCoins: { INTERNAL: 90 } } }]);
});

test('at debug every call has its line', () => {
  openLog('debug');
  for (let calls = 0; calls < 100; calls += 1) end(FETCH, `a${calls}`, new OverloadedError());
  expect(lines.with('call')).toHaveLength(100);
});
