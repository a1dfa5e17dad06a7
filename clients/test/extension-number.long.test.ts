import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../../testkit/root';
import { missingTools } from '../example';
import { LANGUAGES } from '../languages';

const exec = promisify(execFile);
/** A first build downloads Go's packages. In milliseconds. */
const BUILD_MS = 1_800_000;

/** The contract of another team, which has the number that most teams choose for their first extension. */
const OTHER_PROTO = `syntax = "proto3";
package other.v1;
import "google/protobuf/descriptor.proto";
option go_package = "example.com/other/v1;otherv1";
extend google.protobuf.EnumValueOptions {
  string label = 50001;
}
`;
const OTHER_TEMPLATE = JSON.stringify({
  version: 'v2',
  plugins: [{ local: ['go', 'tool', 'protoc-gen-go'], out: 'other', opt: 'paths=source_relative' }],
});
const PROGRAM = `package main

import (
	"fmt"

	coinv1 "aqm.example/client/gen/aqm/coin/v1"
	otherv1 "aqm.example/client/other/other/v1"
)

func main() {
	fmt.Println(coinv1.E_CoinCategorySpec.TypeDescriptor().Number(), otherv1.E_Label.TypeDescriptor().Number())
}
`;

let folder: string;
const env = {
  ...process.env,
  PATH: `${join(ROOT, 'node_modules/.bin')}${delimiter}${process.env.PATH ?? ''}`,
};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-extension-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Builds and runs a Go program that links the contract and that of another team. */
async function linkBoth(change: (coinProto: string) => string): Promise<{ stdout: string; stderr: string }> {
  const go = join(folder, 'clients/go');
  for (const file of ['go.mod', 'go.sum', 'buf.gen.yaml']) cpSync(join(ROOT, 'clients/go', file), join(go, file));
  cpSync(join(ROOT, 'proto'), join(folder, 'proto'), { recursive: true });
  const coinProto = join(folder, 'proto/aqm/coin/v1/coin.proto');
  writeFileSync(coinProto, change(readFileSync(coinProto, 'utf8')));
  mkdirSync(join(folder, 'other/other/v1'), { recursive: true });
  writeFileSync(join(folder, 'other/other/v1/other.proto'), OTHER_PROTO);
  writeFileSync(join(go, 'main.go'), PROGRAM);
  await exec('buf', ['generate'], { cwd: go, env });
  // Compiled by itself, as another team does: the compiler would refuse two extensions with the same number in one image.
  await exec('buf', ['generate', '../../other', '--template', OTHER_TEMPLATE], { cwd: go, env });
  await exec('go', ['build', '-o', 'program', '.'], { cwd: go, env });
  return exec(join(go, 'program'), { env });
}

const hasGo = LANGUAGES.some((language) => language.folder === 'go' && missingTools(language).length === 0);

(hasGo || process.env.CI ? describe : describe.skip)(
  'a Go program that links an extension with the number 50001',
  () => {
    test(
      'also links the contract, whose number is another one',
      async () => {
        expect((await linkBoth((text) => text)).stdout).toBe('82483 50001\n');
      },
      BUILD_MS,
    );

    test(
      'would panic at its start if the contract had that number',
      async () => {
        const program = linkBoth((text) => text.replace('= 82483;', '= 50001;'));
        await expect(program).rejects.toMatchObject({
          stderr: expect.stringMatching(/panic.*extension number 50001/s),
        });
      },
      BUILD_MS,
    );
  },
);
