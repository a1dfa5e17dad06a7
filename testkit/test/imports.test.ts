import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, sep } from 'node:path';
import { ROOT } from '../root';

const FILES = globSync('{services,device,coin-client,demo,clients,bench,chaos,build,deploy,docs,testkit}/**/*.ts', {
  cwd: ROOT,
  exclude: (name) => name === 'node_modules',
});

/** Returns the files of this repository that a file imports, without their extension. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(ROOT, file), 'utf8');
  return [...text.matchAll(/(?:from|import\()\s*'(\.[^']*)'/g)].map(([, path = '']) =>
    normalize(join(dirname(file), path)),
  );
}

/** Returns the folder that holds the `test` folder of a file, such as `services/coin`; undefined outside of tests. */
const partOf = (file: string) => /^(.*?)[\\/]test[\\/]/.exec(file)?.[1];

test('no file imports from the test folder of another part: what parts share is in testkit/', () => {
  const wrong = FILES.flatMap((file) =>
    importsOf(file)
      .filter((imported) => {
        const part = partOf(imported);
        return part !== undefined && !file.startsWith(`${part}${sep}`);
      })
      .map((imported) => `${file} imports ${imported}`),
  );
  expect(FILES.length).toBeGreaterThan(300);
  expect(wrong).toEqual([]);
});

test('the product imports nothing of testkit/, tests, benches and chaos', () => {
  const isProduct = (file: string) =>
    /^(services|device|coin-client|demo)[\\/]/.test(file) && !/[\\/](test|conformance)[\\/]/.test(file);
  const wrong = FILES.filter(isProduct).flatMap((file) =>
    importsOf(file)
      .filter((imported) => /^(testkit|bench|chaos)[\\/]|[\\/]test[\\/]/.test(imported))
      .map((imported) => `${file} imports ${imported}`),
  );
  expect(wrong).toEqual([]);
});
