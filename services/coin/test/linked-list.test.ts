import { LinkedList, type ListNode } from '../linked-list';

test('those who are in a queue stand in the order in which they came, whoever left in between', () => {
  const queue = new LinkedList<number>();
  const places = new Map<number, ListNode<number>>();
  const expected: number[] = [];
  // Every way to leave: first, last, between two, alone; and again after it was empty.
  for (let step = 0; step < 5000; step += 1) {
    const leaves = expected.length > 0 && (step * 7919) % 11 > 4;
    if (leaves) {
      const [left = -1] = expected.splice((step * 31) % expected.length, 1);
      queue.remove(places.get(left) as ListNode<number>);
      places.delete(left);
    } else {
      places.set(step, queue.add(step));
      expected.push(step);
    }
    expect(queue.size).toBe(expected.length);
    expect([...queue]).toEqual(expected);
  }
});

test('whoever is looked at may leave, and the others are looked at all the same', () => {
  const queue = new LinkedList<string>();
  const places = new Map(['a', 'b', 'c', 'd'].map((name) => [name, queue.add(name)]));
  const seen: string[] = [];
  for (const name of queue) {
    seen.push(name);
    if (name !== 'c') queue.remove(places.get(name) as ListNode<string>);
  }
  expect(seen).toEqual(['a', 'b', 'c', 'd']);
  expect([...queue]).toEqual(['c']);
});

test('who has left leads to nobody, so that the collector finds nothing through it', () => {
  const queue = new LinkedList<number>();
  const [first, second, third] = [queue.add(1), queue.add(2), queue.add(3)];
  queue.remove(second);
  expect(second).toMatchObject({ previous: undefined, next: undefined });
  queue.remove(first);
  queue.remove(third);
  expect([first, third]).toMatchObject([{ next: undefined }, { previous: undefined }]);
  expect(queue.size).toBe(0);
});
