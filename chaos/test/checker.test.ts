import { ISSUER_SILENT, SERVICE_KILLED, WATERMARK_FAULTS } from '../service/history';
import { GOLD, SILVER, Story } from './history-kit';

/** A long outage, so that failed calls of a history do not breach availability by themselves. */
const outage = (story = new Story()) => story.fault([0, 50_000], 7).fault([0, 50_000], 0);

describe('once', () => {
  test('a coin that two requests got', () => {
    const story = new Story().upload([0, 1], ['a', 'b']).fetch([2, 3], {}, ['a']);
    expect(story.fetch([4, 5], {}, ['a']).broken()).toEqual(['once']);
  });
  test('its clean twin: each got a coin of its own', () => {
    const story = new Story().upload([0, 1], ['a', 'b']).fetch([2, 3], {}, ['a']);
    expect(story.fetch([4, 5], {}, ['b']).broken()).toEqual([]);
  });
  test('the same request id of another requester is another request', () => {
    const story = new Story().upload([0, 1], ['a', 'b']).fetch([2, 3], { requestId: 'r' }, ['a'], 'alice');
    expect(story.fetch([4, 5], { requestId: 'r' }, ['a'], 'carol').broken()).toEqual(['once']);
  });
  test('a coin that is twice in one answer', () => {
    expect(new Story().upload([0, 1], ['a']).fetch([2, 3], { count: 2 }, ['a', 'a']).broken()).toEqual(['once']);
  });
  test('a coin that the tables give to another request than the one that got it', () => {
    const story = outage().upload([0, 1], ['a']).fetch([2, 3], { requestId: 'r' }, ['a']);
    story.fetch([4, 5], { requestId: 'q' }, 'failed', 'carol').remembered('q', ['a'], 'carol');
    expect(story.broken()).toEqual(['once']);
  });
});

describe('spent', () => {
  const fetched = () => new Story().upload([0, 1], ['a']).fetch([2, 3], {}, ['a']);
  test('an upload of a coin that was handed out is taken in again', () => {
    expect(fetched().upload([4, 5], ['a'], ['INSERTED']).atEnd('a', 'spent').broken()).toEqual(['spent']);
  });
  test('a coin that was handed out counts as present', () => {
    expect(fetched().upload([4, 5], ['a'], ['ALREADY_PRESENT']).broken()).toEqual(['spent']);
  });
  test('its clean twins: SPENT, or an upload that began before the answer was there', () => {
    expect(fetched().upload([4, 5], ['a'], ['SPENT']).broken()).toEqual([]);
    expect(fetched().upload([2, 5], ['a'], ['ALREADY_PRESENT']).broken()).toEqual([]);
  });
  test('a coin that was handed out is in stock at the end', () => {
    expect(fetched().atEnd('a', 'in stock').broken()).toEqual(['spent']);
  });
  test('no table remembers a coin that was handed out', () => {
    expect(fetched().atEnd('a', 'gone').broken()).toEqual(['spent']);
  });
});

describe('repeat', () => {
  const request = { requestId: 'r', count: 2 };
  const answered = () => new Story().upload([0, 1], ['a', 'b', 'c']).fetch([2, 3], request, ['a', 'b']);
  test('another answer to the same request', () => {
    expect(answered().fetch([4, 5], request, ['a', 'c']).broken()).toEqual(['repeat']);
  });
  test('the same coins in another order', () => {
    expect(answered().fetch([4, 5], request, ['b', 'a']).broken()).toEqual(['repeat', 'order']);
  });
  test('nothing, where there were coins before', () => {
    const story = new Story().upload([0, 1], ['a']).fetch([2, 3], { requestId: 'r' }, ['a']);
    expect(story.fetch([4, 5], { requestId: 'r' }, []).broken()).toEqual(['repeat']);
  });
  test('a row that remembers other coins than were answered', () => {
    expect(answered().remembered('r', ['a', 'c']).broken()).toEqual(['repeat']);
  });
  test('its clean twins: the same coins; other coins after the grace; coins after an empty answer', () => {
    expect(answered().fetch([4, 5], request, ['a', 'b']).remembered('r', ['a', 'b']).broken()).toEqual([]);
    expect(answered().fetch([10_003, 10_004], request, ['c']).broken()).toEqual([]);
    const empty = new Story().fetch([0, 1], { requestId: 'r' }, []).upload([2, 3], ['a']);
    expect(empty.fetch([4, 5], { requestId: 'r' }, ['a']).broken()).toEqual([]);
  });
});

describe('short', () => {
  test('an empty answer while a coin was in stock and no call was in flight', () => {
    expect(new Story().upload([0, 1], ['a']).fetch([2, 3], {}, []).broken()).toEqual(['short']);
  });
  test('fewer coins than were in stock', () => {
    const story = new Story().upload([0, 1], ['a', 'b', 'c']).fetch([2, 3], { count: 3 }, ['a', 'b']);
    expect(story.broken()).toEqual(['short']);
  });
  test('an empty answer while more coins lay there than a failed call could hold', () => {
    const story = outage().upload([0, 1], ['a', 'b']).fetch([2, 5], { count: 1 }, 'failed');
    expect(story.fetch([3, 4], {}, []).broken()).toEqual(['short']);
  });
  test('an empty answer long after a call failed that could hold the coin', () => {
    const story = new Story().fault([0, 10], 0).upload([0, 1], ['a']).fetch([2, 5], {}, 'failed');
    expect(story.fetch([6000, 6001], {}, []).broken()).toEqual(['short']);
  });
  test('its clean twins: as many as a call in flight, a failed one, or an unanswered statement could hold', () => {
    const story = () => outage().upload([0, 1], ['a']);
    expect(story().fetch([2, 5], {}, ['a']).fetch([3, 4], {}, [], 'carol').broken()).toEqual([]);
    expect(story().fetch([2, 5], {}, 'failed').fetch([3, 4], {}, [], 'carol').broken()).toEqual([]);
    expect(story().fetch([2, 5], {}, 'failed').fetch([1500, 1501], {}, [], 'carol').broken()).toEqual([]);
  });
  test('its clean twins: not stored yet, of another category, not handed out any more', () => {
    expect(new Story().upload([0, 9], ['a']).fetch([2, 3], {}, []).broken()).toEqual([]);
    expect(new Story().upload([0, 1], ['a'], undefined, SILVER).fetch([2, 3], {}, []).broken()).toEqual([]);
    expect(new Story().upload([0, 1], ['a'], undefined, GOLD, 2).fetch([2, 3], {}, []).broken()).toEqual([]);
  });
  test('a repeat of what was partly answered before may stay short', () => {
    const story = outage().upload([0, 1], ['a']).fetch([2, 3], { requestId: 'r', count: 2 }, 'failed');
    story.upload([4, 5], ['b']).fetch([6, 7], { requestId: 'r', count: 2 }, ['a']);
    expect(story.broken()).toEqual([]);
  });
  test('a lower category while a higher one lay there', () => {
    const story = new Story().upload([0, 1], ['a']).upload([0, 1], ['s'], undefined, SILVER);
    expect(story.fetch([2, 3], { allowLower: true }, ['s:s']).broken()).toEqual(['short']);
  });
  test('its clean twin: the higher one first, then the lower', () => {
    const story = new Story().upload([0, 1], ['a']).upload([0, 1], ['s'], undefined, SILVER);
    expect(story.fetch([2, 3], { allowLower: true, count: 2 }, ['a', 's:s']).broken()).toEqual([]);
  });
});

describe('conservation', () => {
  test('a stored coin that is gone', () => {
    expect(new Story().upload([0, 1], ['a']).atEnd('a', 'gone').broken()).toEqual(['conservation']);
  });
  test('its clean twin: it was purged when it was past handing out', () => {
    const story = new Story().upload([0, 1], ['a'], undefined, GOLD, 500).atEnd('a', 'gone');
    expect(story.broken()).toEqual([]);
  });
  test('a coin that left the stock and that no request explains', () => {
    expect(new Story().upload([0, 1], ['a']).atEnd('a', 'spent').broken()).toEqual(['conservation']);
  });
  test('its clean twins: a request that was given up asked for it; it was retired', () => {
    const story = outage().upload([0, 1], ['a']).fetch([2, 3], {}, 'failed');
    expect(story.atEnd('a', 'spent').broken()).toEqual([]);
    expect(new Story().upload([0, 1], ['a']).retire([2, 3], 1).atEnd('a', 'spent').broken()).toEqual([]);
  });
  test('more coins that left the stock than a request was answered with', () => {
    const story = outage().upload([0, 1], ['a', 'b']).fetch([2, 3], { requestId: 'r' }, 'failed');
    expect(story.fetch([4, 5], { requestId: 'r' }, ['b']).atEnd('a', 'spent').broken()).toEqual(['conservation']);
  });
  const full = () =>
    new Story()
      .fault([100, 5000], undefined, WATERMARK_FAULTS.full)
      .upload([0, 1], ['a', 'b'])
      .fetch([200, 300], {}, 'failed', 'carol', 'FENCED');
  test('a coin that is spent by a request that began after the fence was closed', () => {
    const story = full().atEnd('a', 'spent').atEnd('b', 'spent');
    expect(story.fetch([301, 302], {}, 'failed', 'alice', 'FENCED').broken()).toEqual(['conservation']);
  });
  test('its clean twins: in flight at the failure; at another service; another failure; in the next fault', () => {
    const spent = () => full().atEnd('a', 'spent').atEnd('b', 'spent');
    expect(spent().fetch([299, 302], {}, 'failed', 'alice', 'FENCED').broken()).toEqual([]);
    expect(spent().at(1).fetch([301, 302], {}, 'failed', 'alice', 'FENCED').broken()).toEqual([]);
    expect(spent().fetch([301, 302], {}, 'failed').broken()).toEqual([]);
    const again = spent().fault([6000, 9000], undefined, WATERMARK_FAULTS.full);
    expect(again.fetch([6001, 6002], {}, 'failed', 'alice', 'FENCED').broken()).toEqual([]);
    expect(full().fetch([301, 302], {}, 'failed', 'alice', 'FENCED').atEnd('a', 'spent').broken()).toEqual([]);
  });
  test('a coin that was never uploaded', () => {
    expect(new Story().fetch([2, 3], {}, ['a']).broken()).toEqual(['conservation']);
    expect(new Story().atEnd('a', 'in stock').broken()).toEqual(['conservation']);
  });
  test('an upload without an answer counts as either', () => {
    expect(outage().upload([0, 1], ['a'], 'failed').broken()).toEqual([]);
    expect(outage().upload([0, 1], ['a'], 'failed').atEnd('a', 'in stock').broken()).toEqual([]);
  });
  test('key material that is not what was uploaded', () => {
    const story = new Story().upload([0, 1], ['a']).fetch([2, 3], {}, ['a']);
    const [call] = story.calls.splice(1, 1);
    if (call?.kind !== 'fetch') throw new Error('not a fetch');
    const items = call.items.map((item) => ({
      ...item,
      coins: [{ keyId: 'a', category: GOLD, deviceId: '', altered: true as const }],
    }));
    story.calls.push({ ...call, items });
    expect(story.broken()).toEqual(['conservation']);
  });
  test('a remembered request that was never made', () => {
    expect(new Story().remembered('r', []).broken()).toEqual(['conservation']);
  });
});

describe('order', () => {
  test('the younger coin first, inside one answer', () => {
    const story = new Story().upload([0, 1], ['a', 'b']);
    expect(story.fetch([2, 3], { count: 2 }, ['b', 'a']).broken()).toEqual(['order']);
  });
  test('the younger upload first, between answers', () => {
    const story = new Story().upload([0, 1], ['a']).upload([2, 3], ['b']).fetch([4, 5], {}, ['b']);
    expect(story.fetch([6, 7], {}, ['a']).broken()).toEqual(['order']);
  });
  test('the later place in one upload first, between answers', () => {
    const story = new Story().upload([0, 1], ['a', 'b']).fetch([4, 5], {}, ['b']);
    expect(story.fetch([6, 7], {}, ['a']).broken()).toEqual(['order']);
  });
  test('a lower category before a higher one, and one that was not requested', () => {
    const story = () => new Story().upload([0, 1], ['a']).upload([0, 1], ['s'], undefined, SILVER);
    expect(story().fetch([2, 3], { allowLower: true, count: 2 }, ['s:s', 'a']).broken()).toEqual(['order']);
    expect(story().fetch([2, 3], { count: 2 }, ['a', 's:s']).broken()).toContain('order');
  });
  test('past a repeat in flight, and past calls that got all they asked for', () => {
    const stocked = () => new Story().upload([0, 1], ['a']).upload([2, 3], ['b', 'c', 'd', 'e', 'f', 'g', 'h', 'i']);
    const repeated = stocked()
      .upload([0, 1], ['r'], undefined, SILVER)
      .fetch([4, 5], { requestId: 'r', category: SILVER }, ['s:r']);
    repeated.fetch([6, 9], { requestId: 'r', category: SILVER }, ['s:r']).fetch([6, 9], {}, ['b'], 'carol');
    expect(repeated.fetch([10, 11], {}, ['a']).broken()).toEqual(['order']);
    const beside = stocked().fetch([4, 7], { count: 2 }, ['c', 'd']).fetch([4, 7], {}, ['b'], 'carol');
    expect(beside.fetch([8, 9], {}, ['a']).broken()).toEqual(['order']);
  });
  test('its clean twins: a repeat at another service; a call that may have run short', () => {
    const stocked = () =>
      new Story().upload([0, 1], ['a', 'r']).upload([2, 3], ['b', 'c', 'd', 'e', 'f', 'g', 'h', 'i']);
    const elsewhere = stocked().fetch([4, 5], { requestId: 'r' }, ['a']);
    elsewhere.at(1).fetch([6, 9], { requestId: 'r' }, ['a']).at(0).fetch([6, 9], {}, ['b'], 'carol');
    expect(elsewhere.fetch([10, 11], {}, ['r']).broken()).toEqual([]);
    const scarce = new Story().upload([0, 1], ['a']).upload([2, 3], ['b', 'c', 'd']);
    scarce.fetch([4, 7], { count: 2 }, ['c', 'd']).fetch([4, 7], {}, ['b'], 'carol');
    expect(scarce.fetch([8, 9], {}, ['a']).broken()).toEqual([]);
  });
  test('its clean twins: in order; by answers that overlap; by uploads that overlap; past a call in flight', () => {
    const story = () => new Story().upload([0, 1], ['a']).upload([2, 3], ['b']);
    expect(story().fetch([4, 5], {}, ['a']).fetch([6, 7], {}, ['b']).broken()).toEqual([]);
    expect(story().fetch([4, 6], {}, ['b']).fetch([5, 7], {}, ['a']).broken()).toEqual([]);
    const together = new Story().upload([0, 3], ['a']).upload([2, 3], ['b']);
    expect(together.fetch([4, 5], {}, ['b']).fetch([6, 7], {}, ['a']).broken()).toEqual([]);
    const past = outage(story()).fetch([4, 5], {}, 'failed').fetch([4, 5], {}, ['b']);
    expect(past.fetch([6, 7], {}, ['a']).broken()).toEqual([]);
  });
});

test('coins of an upload that failed may be stored in another order by later ones', () => {
  const story = outage().upload([0, 1], ['a', 'b'], 'failed').upload([2, 3], ['b', 'a']);
  expect(story.fetch([4, 5], { count: 2 }, ['b', 'a']).broken()).toEqual([]);
});

describe('available', () => {
  test('a failure while every part was up', () => {
    expect(new Story().fetch([2, 3], {}, 'failed').broken()).toEqual(['available']);
  });
  test('a failure after the time that healing may take', () => {
    expect(new Story().fault([0, 10]).fetch([1500, 1501], {}, 'failed').broken()).toEqual(['available']);
  });
  test('a failure that no fault explains', () => {
    const story = new Story().fault([0, 10]);
    expect(story.fetch([2, 3], {}, 'failed', 'alice', 'INTERNAL').broken()).toEqual(['available']);
  });
  test('its clean twins: during the fault, and shortly after it', () => {
    expect(new Story().fault([0, 10]).fetch([2, 3], {}, 'failed').broken()).toEqual([]);
    expect(new Story().fault([0, 10]).fetch([500, 501], {}, 'failed').broken()).toEqual([]);
  });
});

test('available: only a call that took at least the lock timeout may be overloaded while every component is up', () => {
  expect(new Story().fetch([2, 1001], {}, 'failed', 'alice', 'OVERLOADED').broken()).toEqual(['available']);
  expect(new Story().fetch([2, 1002], {}, 'failed', 'alice', 'OVERLOADED').broken()).toEqual([]);
});

describe('available, with token keys that change', () => {
  /** Both services know key 1. The issuer publishes key 2 and is silent. */
  const silent = () =>
    new Story().fetchesKeys(0, 1).at(1).fetchesKeys(0, 1).fault([40_000, 46_000], undefined, ISSUER_SILENT).at(0);
  const refused = (story: Story, reason: string, start: number, key = 2) =>
    story
      .withKey(key)
      .fetch([start, start + 1], {}, 'failed', 'alice', reason)
      .broken();
  const UNAVAILABLE = 'TOKEN_KEYS_UNAVAILABLE';

  test('a token whose key is known is refused', () => {
    expect(refused(silent(), UNAVAILABLE, 41_000, 1)).toEqual(['available']);
    expect(refused(silent(), 'TOKEN_INVALID', 41_000, 1)).toEqual(['available']);
    expect(refused(silent().fetchesKeys(39_000, 2), UNAVAILABLE, 41_000)).toEqual(['available']);
  });
  test('a new key is unavailable while the issuer answers', () => {
    expect(refused(silent(), UNAVAILABLE, 39_000)).toEqual(['available']);
    expect(refused(silent(), UNAVAILABLE, 78_000)).toEqual(['available']);
  });
  test('a new key is taken for an invalid one long after the last fetch', () => {
    expect(refused(silent(), 'TOKEN_INVALID', 41_000)).toEqual(['available']);
    expect(refused(silent().fetchesKeys(39_000, 3), 'TOKEN_INVALID', 41_000, 3)).toEqual(['available']);
  });
  test('its clean twins: a new key during the silence and the pause after it, or just after a fetch', () => {
    expect(refused(silent(), UNAVAILABLE, 41_000)).toEqual([]);
    expect(refused(silent(), UNAVAILABLE, 75_000)).toEqual([]);
    expect(refused(silent(), 'TOKEN_INVALID', 20_000)).toEqual([]);
    expect(refused(silent().at(1).fetchesKeys(39_000, 2).at(0), UNAVAILABLE, 41_000)).toEqual([]);
  });
  test('its clean twin: the process that knew the key was killed', () => {
    const restarted = silent().fetchesKeys(39_000, 2).fault([39_500, 39_900], 0, SERVICE_KILLED);
    expect(refused(restarted, UNAVAILABLE, 41_000)).toEqual([]);
  });
});
