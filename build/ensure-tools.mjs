// Before the tests: finds the programs that npm cannot bring, installs them where that needs no question (root on a Debian machine),
// and otherwise names them and the command that installs them. Prints to stderr only. `npm test` needs few; `npm run check` calls this with
// `--all`.
import { spawnSync } from 'node:child_process';
import { ensureGoTool, findGoTool, GO_TOOLS, hasGo, howToGet } from './go-tool.mjs';

const isAll = process.argv.includes('--all');

/** Lists the tools that `npm test` needs. Debian starts redis-server as a service; the tests run their own servers. */
const TOOLS = [
  { what: 'openssl', test: ['openssl', 'version'], debian: 'openssl' },
  { what: 'redis-server', test: ['redis-server', '--version'], debian: 'redis-server' },
];

/** Lists the tools that only `npm run check` needs. */
const FURTHER_TOOLS = [
  { what: 'protoc', test: ['protoc', '--version'], debian: 'protobuf-compiler' },
  {
    what: 'the gRPC plugin of protoc for Python',
    test: ['which', 'grpc_python_plugin'],
    debian: 'protobuf-compiler-grpc',
  },
  {
    what: 'gRPC for Python',
    test: ['/usr/bin/python3', '-c', 'import grpc, google.protobuf'],
    debian: 'python3-grpcio',
  },
  {
    what: "protobuf's own .proto files",
    test: ['test', '-f', '/usr/include/google/protobuf/descriptor.proto'],
    debian: 'libprotobuf-dev',
  },
  // The rest of what the examples in clients/ are generated and built with.
  { what: 'g++', test: ['g++', '--version'], debian: 'g++' },
  { what: 'make', test: ['make', '--version'], debian: 'make' },
  { what: 'pkg-config', test: ['pkg-config', '--version'], debian: 'pkg-config' },
  { what: 'gRPC for C++', test: ['test', '-f', '/usr/include/grpcpp/grpcpp.h'], debian: 'libgrpc++-dev' },
  { what: 'a JDK', test: ['which', 'javac'], debian: 'default-jdk-headless' },
  { what: 'Maven', test: ['which', 'mvn'], debian: 'maven' },
  { what: 'pgbouncer', test: ['sh', '-c', 'PATH="$PATH:/usr/sbin" pgbouncer --version'], debian: 'pgbouncer' },
  {
    what: 'psql, pg_isready, and pg_basebackup with its server',
    test: [
      'sh',
      '-c',
      'psql --version && pg_isready --version && ls /usr/lib/postgresql/*/bin/pg_basebackup /usr/lib/postgresql/*/bin/postgres',
    ],
    debian: 'postgresql',
  },
  { what: 'Chromium', test: ['chromium', '--version'], debian: 'chromium' },
  // Packages from which deploy/test makes machines, and programs that it runs in them.
  { what: 'systemd', test: ['systemd-analyze', '--version'], debian: 'systemd' },
  { what: 'ip', test: ['ip', '-V'], debian: 'iproute2' },
  { what: 'curl', test: ['curl', '--version'], debian: 'curl' },
  { what: 'prometheus with promtool', test: ['promtool', '--version'], debian: 'prometheus' },
  { what: 'amtool', test: ['amtool', '--version'], debian: 'prometheus-alertmanager' },
];

/** Compilers for the examples in clients/ that are newer than those of Debian 12. */
const NEWER_THAN_DEBIAN = [
  { what: 'Go', test: ['go', 'version'], minor: 24, from: 'https://go.dev/dl' },
  { what: 'Rust', test: ['cargo', '--version'], minor: 88, from: 'https://rustup.rs' },
];

/** Programs that are built with Go where they are missing. */
const goTools = isAll ? Object.values(GO_TOOLS) : [];
if (isAll) TOOLS.push(...FURTHER_TOOLS);
if (!goTools.every(findGoTool) && !hasGo()) TOOLS.push({ what: 'Go', test: ['go', 'version'], debian: 'golang-go' });

const missing = TOOLS.filter((tool) => !works(tool.test));
if (missing.length > 0) {
  const packages = missing.map((tool) => tool.debian);
  const names = missing.map((tool) => tool.what).join(', ');
  const command = `apt-get install -y --no-install-recommends ${packages.join(' ')}`;
  if (process.getuid?.() !== 0 || !works(['apt-get', '--version'])) {
    console.error(`The tests need ${names}, which npm cannot install. On Debian: sudo ${command}`);
    process.exit(1);
  }
  console.error(`Installing ${names}: ${command}`);
  install(['update']) && install(['install', '-y', '--no-install-recommends', ...packages]);
  const still = missing.filter((tool) => !works(tool.test));
  if (still.length > 0) {
    console.error(`Could not install ${still.map((tool) => tool.what).join(', ')}.`);
    process.exit(1);
  }
}

for (const { what, test, minor, from } of isAll ? NEWER_THAN_DEBIAN : []) {
  if (minorVersion(test) >= minor) continue;
  console.error(`There is no ${what} 1.${minor} or newer (${from}): its example in clients/ is not tested.`);
  if (process.env.CI) process.exit(1);
}

for (const tool of goTools) {
  if (ensureGoTool(tool)) continue;
  console.error(howToGet(tool));
  process.exit(1);
}

function works([program, ...args]) {
  return spawnSync(program, args, { stdio: 'ignore' }).status === 0;
}

/** Returns the minor number of a version 1; -1 where the program is missing. */
function minorVersion([program, ...args]) {
  const { stdout } = spawnSync(program, args, { encoding: 'utf8' });
  return Number(/ (?:go)?1\.(\d+)/.exec(stdout ?? '')?.[1] ?? -1);
}

function install(args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  return spawnSync('apt-get', args, { stdio: ['ignore', 2, 2], env }).status === 0;
}
