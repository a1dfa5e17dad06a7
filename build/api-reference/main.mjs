// `npm run generate`: writes docs/api.md from the comments in proto/, the limits and error codes in services/coin,
// and the examples beside this file. With `--check` it writes nothing, and its exit code is 1 when docs/api.md differs.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { describe, link, table, typeSection } from './markdown.mjs';
import { REASONS } from './reasons.mjs';

const here = import.meta.dirname;
const root = dirname(dirname(here));
const require = createRequire(import.meta.url);
const { LIMITS, ...coin } = require(join(root, 'dist/services/coin/coin.js'));
const { MAX_REQUEST_BYTES } = require(join(root, 'dist/services/coin/rpc/decode.js'));
const { COIN_CATEGORIES } = require(join(root, 'dist/gen/aqm/coin/v1/coin_categories.js'));

const DAY_MS = 86_400_000;
const target = join(root, 'docs/api.md');

const image = execFileSync(join(root, 'node_modules/.bin/buf'), ['build', 'proto', '-o', '-#format=binpb'], {
  cwd: root,
});
const files = fromBinary(FileDescriptorSetSchema, image).file.filter((file) => file.package === 'aqm.coin.v1');
// The services first, the one with more methods before the other; then coin.proto, which they share.
const methodsOf = (file) => file.service.reduce((sum, { method }) => sum + method.length, 0);
const { services, types } = describe(files.sort((a, b) => methodsOf(b) - methodsOf(a)));

const text = `<!-- Written by "npm run generate" from proto/, services/coin and build/api-reference. Do not edit. -->

# API of the coin service

gRPC, package \`aqm.coin.v1\`, in \`proto/aqm/coin/v1\`: generate a client of your language from it, as [clients/](../clients) does, or use the npm package's.
\`grpc.health.v1.Health\` and server reflection are served too, both without a token.

${serviceComment('aqm.coin.v1.CoinService')}

## Try it

\`\`\`text
npm start                                                        # serves on 127.0.0.1:50051
export ADDRESS=127.0.0.1:50051 BOB=$(cat /proc/sys/kernel/random/uuid)
export BOB_TOKEN=$(npm run --silent token -- --user $BOB)
export ALICE_TOKEN=$(npm run --silent token -- --user $(cat /proc/sys/kernel/random/uuid))
export ADMIN_TOKEN=$(npm run --silent token -- --user $(cat /proc/sys/kernel/random/uuid) --admin)
\`\`\`

\`grpcurl -plaintext … ADDRESS METHOD\` below is \`npx buf curl --protocol grpc --http2-prior-knowledge … http://ADDRESS/METHOD\` with buf, which comes with \`npm ci\` (and takes \`-d @-\` for
\`-d @\`). The examples for Node share

\`\`\`ts
// setting.ts
${example('setting.ts')}
\`\`\`

and run with the npm package (\`npm pack\`).

## Coin categories

The options on the values of \`CoinCategory\` say this to every language. Fallback goes down this list only.

${table(
  ['category', 'public key', 'signature'],
  COIN_CATEGORIES.map((spec) => [
    spec.name,
    `${spec.publicKeyAlgorithm}, ${spec.publicKeySize} bytes`,
    `${spec.signatureAlgorithm}, ${spec.signatureSize} bytes`,
  ]),
)}

## Limits

${table(
  ['what', 'limit'],
  [
    ['one request', `${MAX_REQUEST_BYTES / 1024 / 1024} MiB`],
    ['coins of one upload', LIMITS.coinsPerUpload],
    ['coins of one fetch', LIMITS.coinsPerFetch],
    ['fetches of one batch', LIMITS.fetchesPerBatch],
    ['ids of one reconcile', LIMITS.idsPerReconcile],
    ['`max_age_days`, `grace_hours`', `${LIMITS.maxAgeDays}, ${LIMITS.graceHours}`],
    [
      '`expire_time` from the upload',
      `${coin.COIN_LIFETIME_MS / DAY_MS} days, and ${coin.CLOCK_SKEW_MS / 60_000} minutes for clocks that differ`,
    ],
    ['handing out ends before `expire_time`', `${coin.HAND_OUT_MARGIN_S / 3600} hours`],
    ['a spent id is remembered after `expire_time`', `${coin.DELIVERY_WINDOW_S / 86_400} days`],
    ['stock of one user and category, fetches and uploads an hour', 'settings: [configuration.md](configuration.md)'],
  ],
)}

## Errors

Domain \`coin.aqm\`. Where the last column says so the error carries a RetryInfo; wait that long, then repeat the same request.

${table(['code', 'reason', 'means', 'wait'], reasonRows())}

${services.map(serviceSection).join('\n')}
## Messages

${types.map(typeSection).join('\n')}`;

if (!process.argv.includes('--check')) {
  writeFileSync(target, text);
} else if (readFileSync(target, 'utf8') !== text) {
  console.error('docs/api.md is not what proto/, services/coin and build/api-reference say: npm run generate');
  process.exit(1);
}

function serviceComment(name) {
  const { comment } = services.find((service) => service.name === name);
  // Lines of the comment that are indented by two spaces are the table of errors.
  return comment.replace(/:\n(?: {2}.*\n)+/, ' ([below](#errors)).\n');
}

function serviceSection({ name, comment, methods }) {
  const intro = name.endsWith('AdminService') ? `${comment}\n\n` : '';
  return `## ${name}\n\n${intro}${methods.map((method) => methodSection(name, method)).join('\n')}`;
}

function methodSection(service, { name, comment, request, response }) {
  const file = name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, '-').toLowerCase();
  return `### ${name}

\`${service}/${name}\`: ${link(request)} → ${link(response)}

${comment}

\`\`\`sh
${example(`${file}.sh`)}
\`\`\`

\`\`\`ts
// ${file}.ts
${example(`${file}.ts`)}
\`\`\`
`;
}

function example(file) {
  return readFileSync(join(here, 'examples', file), 'utf8').trimEnd();
}

/** Returns the reasons of the service in their order. @throws if one has no description */
function reasonRows() {
  const source = readFileSync(join(root, 'services/coin/rpc/status.ts'), 'utf8');
  const codes = [...source.matchAll(/^ {2}([A-Z_]+): status\.([A-Z_]+),$/gm)].map(([, reason, code]) => [reason, code]);
  const all = [...codes.filter(([reason]) => reason !== 'CANCELLED'), ['INTERNAL', 'INTERNAL']];
  const unknown = all.filter(([reason]) => !(reason in REASONS)).map(([reason]) => reason);
  const gone = Object.keys(REASONS).filter((name) => !all.some(([reason]) => reason === name));
  if (unknown.length + gone.length > 0) throw new Error(`build/api-reference/reasons.mjs: ${[...unknown, ...gone]}`);
  return all.map(([reason, code]) => [code, `\`${reason}\``, REASONS[reason].means, REASONS[reason].wait ? 'yes' : '']);
}
