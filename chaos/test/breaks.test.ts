import { brokenCopy } from '../../testkit/broken-copy';
import { LEAK } from '../fuzz/leak';
import { BREAKS } from '../service/breaks';

test('every break finds the pieces that it replaces', () => {
  for (const { edits } of [...Object.values(BREAKS), { edits: [LEAK] }]) brokenCopy(edits).remove();
});

test('a break whose piece is missing is an error', () => {
  expect(() => brokenCopy([{ file: 'store/claim/claim-one.js', from: 'no such piece', to: '' }])).toThrow('0 times');
});
