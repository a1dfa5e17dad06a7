import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../../testkit/root';
import { missingTools } from '../example';
import { LANGUAGES } from '../languages';

const exec = promisify(execFile);
/** A first build downloads protovalidate and what it needs. In milliseconds. */
const BUILD_MS = 1_800_000;

const PROGRAM = `package main

import (
	"fmt"

	"buf.build/go/protovalidate"

	coinv1 "aqm.example/client/gen/aqm/coin/v1"
)

func main() {
	for _, count := range []int32{0, 1, 20, 21} {
		request := &coinv1.FetchCoinsRequest{TargetUserId: "3f0c9a52-7f5e-4c57-9d4b-0f6a4a1c2d3e", CoinCategory: 3, Count: count}
		fmt.Println(count, protovalidate.Validate(request) == nil)
	}
	for _, size := range []int{31, 32, 33} {
		coin := &coinv1.Coin{KeyId: "3f0c9a52-7f5e-4c57-9d4b-0f6a4a1c2d3e", CoinCategory: 3}
		coin.PublicKey, coin.Signature = make([]byte, size), make([]byte, 64)
		fmt.Println(size, protovalidate.Validate(&coinv1.UploadCoinsRequest{Coins: []*coinv1.Coin{coin}}) == nil)
	}
}
`;

/** The verdicts about fetches of 0, 1, 20 and 21 coins, and about BRONZE coins whose key has 31, 32 and 33 bytes. */
const VERDICTS = '0 false\n1 true\n20 true\n21 false\n31 false\n32 true\n33 false\n';

const env = { ...process.env, PATH: `${join(ROOT, 'node_modules/.bin')}${delimiter}${process.env.PATH ?? ''}` };

/** Without its tools it is skipped, but not in CI. */
const hasGo = LANGUAGES.some((language) => language.folder === 'go' && missingTools(language).length === 0);

(hasGo || process.env.CI ? test : test.skip)(
  "a Go client checks its requests by protovalidate's library",
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'aqm-field-rules-'));
    try {
      const cwd = join(folder, 'clients/go');
      cpSync(join(ROOT, 'proto'), join(folder, 'proto'), { recursive: true });
      for (const file of ['go.mod', 'go.sum', 'buf.gen.yaml']) cpSync(join(ROOT, 'clients/go', file), join(cwd, file));
      writeFileSync(join(cwd, 'main.go'), PROGRAM);
      await exec('buf', ['generate'], { cwd, env });
      await exec('go', ['get', 'buf.build/go/protovalidate@v1.2.0'], { cwd, env });
      expect((await exec('go', ['run', '.'], { cwd, env })).stdout).toBe(VERDICTS);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
  BUILD_MS,
);
