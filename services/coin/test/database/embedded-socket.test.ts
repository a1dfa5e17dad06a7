import { chmodSync, lstatSync, mkdirSync, mkdtempSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { socketFolder } from '../../database/embedded-socket';

let base: string;
let long: string;
const temporary = tmpdir();
beforeEach(() => {
  base = mkdtempSync(join(temporary, 'aqm-socket-'));
  long = join(base, 'a-long-name-for-a-folder/'.repeat(4));
  mkdirSync(long, { recursive: true });
});
afterEach(() => {
  process.env.TMPDIR = temporary;
  if (lstatSync(join(long, 'socket'), { throwIfNoEntry: false })?.isSymbolicLink()) {
    rmSync(readlinkSync(join(long, 'socket')), { recursive: true, force: true });
  }
  rmSync(base, { recursive: true });
});

const modeOf = (path: string) => (lstatSync(path).mode & 0o777).toString(8);

test('a short path has its socket inside, in a folder that only its owner can enter', () => {
  expect(socketFolder(base)).toBe(join(base, 'socket'));
  expect(modeOf(join(base, 'socket'))).toBe('700');
});

test('a long path has it in a folder of the temporary directory whose name cannot be guessed', () => {
  const folder = socketFolder(long);
  expect([dirname(folder), modeOf(folder)]).toEqual([temporary, '700']);
  expect(basename(folder)).toMatch(/^aqm-\w{6}$/);
  const other = join(base, 'another-long-name-for-a-folder/'.repeat(4));
  mkdirSync(other, { recursive: true });
  const otherFolder = socketFolder(other);
  expect(otherFolder).not.toBe(folder);
  rmSync(otherFolder, { recursive: true });
  // Every process finds the same one, also when the temporary directory was emptied.
  expect(socketFolder(long)).toBe(folder);
  rmSync(folder, { recursive: true });
  expect(socketFolder(long)).toBe(folder);
  expect(modeOf(folder)).toBe('700');
});

test('the length is counted in bytes', () => {
  const folder = join(base, 'ö'.repeat(40));
  mkdirSync(folder);
  expect(join(folder, 'socket').length).toBeLessThan(89);
  expect(dirname(socketFolder(folder))).toBe(temporary);
  rmSync(readlinkSync(join(folder, 'socket')), { recursive: true });
});

test('a temporary directory with a long path is not used', () => {
  process.env.TMPDIR = long;
  expect(dirname(socketFolder(long))).toBe('/tmp');
});

describe('it is refused', () => {
  test.each<[what: string, replace: (folder: string) => void]>([
    ['if others can enter it', (folder) => chmodSync(folder, 0o711)],
    [
      'if it is a link to a folder of another user',
      (folder) => {
        rmSync(folder, { recursive: true });
        symlinkSync(base, folder);
      },
    ],
  ])('%s', (_what, replace) => {
    const folder = socketFolder(long);
    replace(folder);
    expect(() => socketFolder(long)).toThrow(
      `cannot have its socket in ${folder}, because another user owns that folder or can enter it. Remove ${join(long, 'socket')}`,
    );
    rmSync(join(long, 'socket'));
    const next = socketFolder(long);
    expect(next).not.toBe(folder);
    rmSync(folder, { recursive: true, force: true });
  });
});
