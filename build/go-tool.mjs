// Finds programs that are written in Go: on PATH, in GOBIN, in the bin folder of GOPATH. A missing one is built with `go install`,
// if Go is installed. `node build/go-tool.mjs jaeger` prints the path of the one of that name.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';

/** The program and module of each, and the seconds that a build from nothing takes on two cores. */
export const GO_TOOLS = {
  ghz: { program: 'ghz', module: 'github.com/bojand/ghz/cmd/ghz@v0.93.0', seconds: 36 },
  grpcurl: { program: 'grpcurl', module: 'github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3', seconds: 38 },
  // Newer tags have replace directives, which `go install` refuses.
  jaeger: { program: 'all-in-one', module: 'github.com/jaegertracing/jaeger/cmd/all-in-one@v1.42.0', seconds: 70 },
  healthProbe: {
    program: 'grpc-health-probe',
    module: 'github.com/grpc-ecosystem/grpc-health-probe@v0.4.62',
    seconds: 20,
  },
  kustomize: { program: 'kustomize', module: 'sigs.k8s.io/kustomize/kustomize/v5@v5.8.1', seconds: 40 },
};

/** @returns its path; undefined if it is not installed */
export function findGoTool({ program }) {
  const goBins = [go('GOBIN'), ...go('GOPATH').split(delimiter).map(binOf), binOf(join(homedir(), 'go'))];
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...goBins].filter((folder) => folder !== '');
  return folders.map((folder) => join(folder, program)).find((file) => existsSync(file));
}

/** @returns its path; undefined if Go is missing or cannot build it */
export function ensureGoTool(tool) {
  const found = findGoTool(tool);
  if (found || !hasGo()) return found;
  console.error(`Building ${tool.program}, about ${tool.seconds} s: go install ${tool.module}`);
  spawnSync('go', ['install', tool.module], { stdio: ['ignore', 2, 2] });
  return findGoTool(tool);
}

/** Returns the instruction for a program that `ensureGoTool` could not provide. */
export function howToGet({ program, module }) {
  return `${program} is neither on PATH nor in GOBIN nor in the bin folder of GOPATH, and could not be built. Install Go (on Debian: sudo apt-get install -y golang-go) and run this again, or: go install ${module}`;
}

export const hasGo = () => spawnSync('go', ['version'], { stdio: 'ignore' }).status === 0;

function go(variable) {
  const { status, stdout } = spawnSync('go', ['env', variable], { encoding: 'utf8' });
  return (status === 0 ? stdout.trim() : process.env[variable]) ?? '';
}

function binOf(folder) {
  return folder === '' ? '' : join(folder, 'bin');
}

if (import.meta.main) {
  const tool = GO_TOOLS[process.argv[2]];
  if (!tool) {
    console.error(`Usage: node build/go-tool.mjs ${Object.keys(GO_TOOLS).join('|')}`);
    process.exit(2);
  }
  const file = ensureGoTool(tool);
  if (!file) {
    console.error(howToGet(tool));
    process.exit(1);
  }
  process.stdout.write(`${file}\n`);
}
