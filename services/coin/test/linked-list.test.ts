import { LinkedList, type ListNode } from '../linked-list';

test('keeps the order of insertion, whichever values are removed in between', () => {
  const list = new LinkedList<number>();
  const nodes = new Map<number, ListNode<number>>();
  const expected: number[] = [];
  // Removes the first, the last, an inner and the only value, and adds to a list that became empty.
  for (let step = 0; step < 5000; step += 1) {
    const isRemoval = expected.length > 0 && (step * 7919) % 11 > 4;
    if (isRemoval) {
      const [removed = -1] = expected.splice((step * 31) % expected.length, 1);
      list.remove(nodes.get(removed) as ListNode<number>);
      nodes.delete(removed);
    } else {
      nodes.set(step, list.add(step));
      expected.push(step);
    }
    expect(list.size).toBe(expected.length);
    expect([...list]).toEqual(expected);
  }
});

test('visits every value, although values are removed during the iteration', () => {
  const list = new LinkedList<string>();
  const nodes = new Map(['a', 'b', 'c', 'd'].map((name) => [name, list.add(name)]));
  const seen: string[] = [];
  for (const name of list) {
    seen.push(name);
    if (name !== 'c') list.remove(nodes.get(name) as ListNode<string>);
  }
  expect(seen).toEqual(['a', 'b', 'c', 'd']);
  expect([...list]).toEqual(['c']);
});

test('unlinks a removed node from its neighbours, so that it retains none of them', () => {
  const list = new LinkedList<number>();
  const [first, second, third] = [list.add(1), list.add(2), list.add(3)];
  list.remove(second);
  expect(second).toMatchObject({ previous: undefined, next: undefined });
  list.remove(first);
  list.remove(third);
  expect([first, third]).toMatchObject([{ next: undefined }, { previous: undefined }]);
  expect(list.size).toBe(0);
});
