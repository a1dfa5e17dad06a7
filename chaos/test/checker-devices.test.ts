import { GOLD, SILVER, Story } from './history-kit';

const LAPTOP = 'laptop';
const PHONE = 'phone';

/** A long outage, so that failed calls of a history do not breach availability by themselves. */
const outage = (story = new Story()) => story.fault([0, 50_000]);
/** One coin of the unnamed device (a), and two each of the laptop (l, m) and the phone (p, q). */
const stocked = (story = new Story()) =>
  story.upload([0, 1], ['a']).of(LAPTOP).upload([0, 1], ['l', 'm']).of(PHONE).upload([0, 1], ['p', 'q']).of('');

describe('removed', () => {
  const removed = () => stocked().of(LAPTOP).remove([2, 3], 2).atEnd('l', 'hard-deleted').atEnd('m', 'hard-deleted');

  test('a coin of the device is handed out to a request that began after the removal', () => {
    expect(removed().fetch([4, 5], {}, ['l']).broken()).toEqual(['removed']);
    expect(removed().fanOut([4, 5], { count: 0 }, { '': [], laptop: [], phone: [] }).broken()).toContain('removed');
  });
  test('a request that began before, and was answered with nothing then', () => {
    const story = stocked().of(LAPTOP).fetch([1, 2], { requestId: 'r' }, [], 'carol').remove([2, 3], 1);
    story.atEnd('m', 'hard-deleted');
    expect(story.fetch([4, 5], { requestId: 'r' }, ['l'], 'carol').broken()).toContain('removed');
  });
  test('its clean twins: a request that began before, and a repeat of it; nothing', () => {
    const story = stocked().of(LAPTOP).fetch([1, 4], { requestId: 'r' }, ['l']).remove([2, 3], 1);
    story.atEnd('m', 'hard-deleted');
    expect(story.fetch([5, 6], { requestId: 'r' }, ['l']).broken()).toEqual([]);
    expect(removed().fetch([4, 5], {}, []).broken()).toEqual([]);
    expect(
      removed()
        .fanOut([4, 5], {}, { '': ['a'], phone: ['p'] })
        .broken(),
    ).toEqual([]);
  });
  test('an upload by the device is answered after the removal', () => {
    expect(removed().upload([4, 5], ['n'], ['EXPIRED']).deviceAtEnd(true).broken()).toEqual(['removed']);
    expect(removed().upload([4, 5], ['n']).deviceAtEnd(true).broken()).toEqual(['removed']);
  });
  test('its clean twins: it is refused; it began before', () => {
    expect(removed().upload([4, 5], ['n'], 'failed', GOLD, undefined, 'DEVICE_REMOVED').broken()).toEqual([]);
    const story = removed().upload([2, 5], ['n']).atEnd('n', 'hard-deleted').deviceAtEnd(true);
    expect(outage(story).remove([2, 6], 'failed').broken()).toEqual([]);
  });
  test('a coin of the device is in stock at the end', () => {
    expect(removed().atEnd('m', 'in stock').broken()).toEqual(['removed']);
  });
  test('the device is listed or counted after the removal, or not recorded as removed', () => {
    expect(removed().list([4, 5], ['', LAPTOP, PHONE]).broken()).toEqual(['removed']);
    expect(removed().count([4, 5], 1).broken()).toEqual(['removed']);
    expect(removed().deviceAtEnd(false).broken()).toEqual(['removed']);
  });
  test('its clean twins: it is neither listed nor counted; its removal failed', () => {
    expect(removed().list([4, 5], ['', PHONE]).count([4, 5], 0).broken()).toEqual([]);
    const failed = outage(stocked()).of(LAPTOP).remove([2, 3], 'failed').fetch([4, 5], {}, ['l']).count([6, 7], 1);
    expect(failed.list([8, 9], ['', LAPTOP, PHONE]).broken()).toEqual([]);
  });
});

describe('devices', () => {
  test('a coin of another device', () => {
    expect(stocked().of(PHONE).fetch([2, 3], {}, ['l']).broken()).toEqual(['devices']);
    expect(
      stocked()
        .fanOut([2, 3], {}, { '': ['a'], laptop: ['l'], phone: ['m'] })
        .broken(),
    ).toContain('devices');
  });
  test('a coin that names another device than its own', () => {
    const story = stocked().of(PHONE).fetch([2, 3], {}, ['p']);
    const [call] = story.calls.splice(-1, 1);
    if (call?.kind !== 'fetch') throw new Error('not a fetch');
    const items = call.items.map((item) => ({ ...item, coins: [{ keyId: 'p', category: GOLD, deviceId: LAPTOP }] }));
    story.calls.push({ ...call, items });
    expect(story.broken()).toEqual(['devices']);
  });
  test('a fan-out that leaves a device out, answers one that was not asked for, or one twice', () => {
    expect(
      stocked()
        .fanOut([2, 3], {}, { '': ['a'], laptop: ['l'] })
        .broken(),
    ).toEqual(['devices']);
    const asked = { askedDeviceIds: [PHONE] };
    expect(
      stocked()
        .fanOut([2, 3], asked, { laptop: ['l'], phone: ['p'] })
        .broken(),
    ).toEqual(['devices']);
    expect(
      stocked()
        .fanOut([2, 3], {}, { '': ['a'], phone: ['p'], laptop: ['l'] })
        .broken(),
    ).toEqual(['devices']);
    expect(stocked().fanOut([2, 3], {}, { '': [], laptop: [], phone: [], x: [] }).broken()).toContain('devices');
  });
  test('more coins for a device than were requested', () => {
    expect(
      stocked()
        .fanOut([2, 3], {}, { '': ['a'], laptop: ['l', 'm'], phone: ['p'] })
        .broken(),
    ).toEqual(['devices']);
  });
  test('its clean twins: all devices; those that were asked for; before a removal or a first upload was answered', () => {
    expect(
      stocked()
        .fanOut([2, 3], {}, { '': ['a'], laptop: ['l'], phone: ['p'] })
        .broken(),
    ).toEqual([]);
    expect(
      stocked()
        .fanOut([2, 3], { askedDeviceIds: [PHONE, 'x'] }, { phone: ['p'] })
        .broken(),
    ).toEqual([]);
    const leaving = stocked().of(LAPTOP).remove([2, 5], 2).atEnd('l', 'hard-deleted').atEnd('m', 'hard-deleted');
    expect(leaving.fanOut([3, 4], {}, { '': ['a'], phone: ['p'] }).broken()).toEqual([]);
    const coming = new Story().upload([0, 1], ['a']).of(PHONE).upload([2, 5], ['p']);
    expect(coming.fanOut([3, 4], {}, { '': ['a'] }).broken()).toEqual([]);
  });
  test('a reconcile of one device retires the coins of another', () => {
    const story = stocked().of(LAPTOP).retire([2, 3], 2).atEnd('p', 'hard-deleted').atEnd('q', 'hard-deleted');
    expect(story.broken()).toEqual(['devices']);
  });
  test('its clean twin: it retires its own', () => {
    const story = stocked().of(LAPTOP).retire([2, 3], 2).atEnd('l', 'hard-deleted').atEnd('m', 'hard-deleted');
    expect(story.broken()).toEqual([]);
  });
  test('an upload stores or acknowledges a coin of another device', () => {
    expect(stocked().of(PHONE).upload([2, 3], ['l'], ['ALREADY_PRESENT']).broken()).toEqual(['devices']);
    expect(stocked().of(PHONE).upload([2, 3], ['l'], ['CONFLICT']).broken()).toEqual([]);
  });
  test('a count or a list with coins of other devices', () => {
    expect(stocked().of(PHONE).count([2, 3], 5).broken()).toEqual(['devices']);
    expect(stocked().of(PHONE).count([2, 3], 2).broken()).toEqual([]);
    expect(stocked().list([2, 3], ['', PHONE]).broken()).toEqual(['devices']);
    expect(stocked().list([2, 3], ['', LAPTOP, PHONE]).broken()).toEqual([]);
  });
  test('a call is answered whose token names another device; its clean twin is refused', () => {
    const mismatched = (story: Story) => {
      const [call] = story.calls.splice(-1, 1);
      if (call?.kind !== 'upload') throw new Error('not an upload');
      story.calls.push({ ...call, isMismatched: true });
      return story.broken();
    };
    expect(mismatched(stocked().of(PHONE).upload([2, 3], ['n']))).toEqual(['devices']);
    const refused = stocked().of(PHONE).upload([2, 3], ['n'], 'failed', GOLD, undefined, 'DEVICE_MISMATCH');
    expect(mismatched(refused)).toEqual([]);
  });
});

describe('fan-outs keep the other promises', () => {
  const wish = { requestId: 'r' };
  const answer = { '': ['a'], laptop: ['l'], phone: ['p'] };
  const answered = () => stocked().fanOut([2, 3], wish, answer);

  test('a repeat with another coin, another device or none', () => {
    expect(
      answered()
        .fanOut([4, 5], wish, { ...answer, phone: ['q'] })
        .broken(),
    ).toEqual(['repeat']);
    expect(
      answered()
        .fanOut([4, 5], wish, { '': ['a'], laptop: ['l'] })
        .broken(),
    ).toContain('repeat');
    expect(
      answered()
        .fanOut([4, 5], wish, { ...answer, phone: [] })
        .broken(),
    ).toContain('repeat');
  });
  test('a repeat after a device came that answers it too', () => {
    const story = answered().of('tablet').upload([4, 5], ['t']);
    expect(story.fanOut([6, 7], wish, { ...answer, tablet: [] }).broken()).toContain('repeat');
    const same = answered().of('tablet').upload([4, 5], ['t']).fanOut([6, 7], wish, answer);
    expect(same.remembered('r', ['a', 'l', 'p'], 'alice', ['', LAPTOP, PHONE]).broken()).toEqual([]);
  });
  test('a record of other devices or coins than were answered', () => {
    expect(answered().remembered('r', ['a', 'l', 'p'], 'alice', ['', LAPTOP]).broken()).toEqual(['repeat']);
    expect(answered().remembered('r', ['a', 'l'], 'alice', ['', LAPTOP, PHONE]).broken()).toEqual(['repeat']);
  });
  test('coins of one request that are hard-deleted in part', () => {
    expect(answered().atEnd('l', 'hard-deleted').broken()).toEqual(['repeat']);
    const all = answered().atEnd('a', 'hard-deleted').atEnd('l', 'hard-deleted').atEnd('p', 'hard-deleted');
    expect(all.broken()).toEqual([]);
  });
  test('a device without coins in the answer while it had some; its clean twin: a failed fan-out may hold them', () => {
    expect(
      stocked()
        .fanOut([2, 3], {}, { ...answer, phone: [] })
        .broken(),
    ).toEqual(['short']);
    const held = outage(stocked()).fanOut([2, 3], { count: 2 }, 'failed');
    expect(held.fanOut([2, 3], {}, { '': ['a'], laptop: ['l'], phone: [] }, 'carol').broken()).toEqual([]);
    const other = outage(stocked()).fanOut([2, 3], { count: 2, askedDeviceIds: [LAPTOP] }, 'failed');
    expect(other.fanOut([2, 3], {}, { ...answer, phone: [] }, 'carol').broken()).toEqual(['short']);
  });
  test('the younger coin of a device first; an older one of another device does not matter', () => {
    expect(stocked().of(PHONE).fetch([2, 3], {}, ['q']).fetch([4, 5], {}, ['p']).broken()).toEqual(['order']);
    const story = new Story().of(PHONE).upload([0, 1], ['p']).of(LAPTOP).upload([2, 3], ['l']);
    expect(story.fetch([4, 5], {}, ['l']).of(PHONE).fetch([6, 7], {}, ['p']).broken()).toEqual([]);
    const lower = stocked().of(PHONE).upload([0, 1], ['s'], undefined, SILVER).of('');
    const both = { allowLower: true, count: 2, askedDeviceIds: [LAPTOP, PHONE] };
    expect(lower.fanOut([2, 3], both, { laptop: ['l', 'm'], phone: ['s:s', 'p'] }).broken()).toContain('order');
  });
  test('a coin that a fan-out and a fetch got', () => {
    expect(answered().of(PHONE).fetch([4, 5], {}, ['p'], 'carol').broken()).toEqual(['once']);
  });
});
