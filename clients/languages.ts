import { join } from 'node:path';

export type Command = readonly [program: string, ...args: string[]];

export interface Need {
  readonly what: string;
  /** A command whose exit code is 0 if it is installed. */
  readonly test: Command;
  /** The oldest version that works, compared with the first version number that the command prints. */
  readonly atLeast?: readonly [major: number, minor: number];
}

export interface Language {
  readonly name: string;
  /** The name of its folder in clients/. */
  readonly folder: string;
  /** The generator of its client code. */
  readonly tool: string;
  readonly needs: readonly Need[];
  /** The commands of clients/README.md, run in its folder one after the other. */
  readonly build: readonly Command[];
  readonly run: Command;
  /** Runs the program that sends a message to every device of the users who are named after it. */
  readonly sendToDevices?: Command;
  /** Additional environment of the build and of the run, given the path of its folder. */
  readonly env?: (folder: string) => NodeJS.ProcessEnv;
}

const PROTOC: Need = { what: 'protoc', test: ['protoc', '--version'] };

export const LANGUAGES: readonly Language[] = [
  {
    name: 'Python',
    folder: 'python',
    tool: 'protoc, grpc_python_plugin',
    needs: [
      PROTOC,
      { what: 'grpc_python_plugin', test: ['which', 'grpc_python_plugin'] },
      { what: "gRPC for Debian's Python", test: ['/usr/bin/python3', '-c', 'import grpc, google.protobuf'] },
    ],
    build: [['./generate', 'gen']],
    // Debian's gRPC belongs to Debian's Python; another python3 may be first on PATH.
    run: ['/usr/bin/python3', 'example.py'],
    sendToDevices: ['/usr/bin/python3', 'send_to_devices.py'],
    env: (folder) => ({ PYTHONPATH: join(folder, 'gen') }),
  },
  {
    name: 'Go',
    folder: 'go',
    tool: 'buf, protoc-gen-go, -go-grpc',
    needs: [{ what: 'Go', test: ['go', 'version'], atLeast: [1, 24] }],
    build: [
      ['buf', 'generate'],
      ['go', 'build', '-o', 'build/example', '.'],
      ['go', 'build', '-o', 'build/send-to-devices', './send-to-devices'],
    ],
    run: ['build/example'],
    sendToDevices: ['build/send-to-devices'],
  },
  {
    name: 'Java',
    folder: 'java',
    tool: 'protobuf-maven-plugin',
    needs: [
      { what: 'Maven', test: ['mvn', '--version'], atLeast: [3, 8] },
      { what: 'a JDK', test: ['javac', '-version'], atLeast: [17, 0] },
    ],
    build: [['mvn', '--batch-mode', '--quiet', 'compile']],
    run: ['java', '-cp', 'target/classes:target/lib/*', 'Example'],
  },
  {
    name: 'Rust',
    folder: 'rust',
    tool: 'tonic-prost-build, protox',
    needs: [{ what: 'Cargo', test: ['cargo', '--version'], atLeast: [1, 88] }],
    build: [['cargo', 'build', '--quiet']],
    run: ['cargo', 'run', '--quiet'],
  },
  {
    name: 'C++',
    folder: 'cpp',
    tool: 'protoc, grpc_cpp_plugin',
    needs: [
      PROTOC,
      { what: 'grpc_cpp_plugin', test: ['which', 'grpc_cpp_plugin'] },
      { what: 'g++', test: ['g++', '--version'] },
      { what: 'make', test: ['make', '--version'] },
      { what: 'libgrpc++', test: ['pkg-config', '--exists', 'grpc++', 'protobuf'] },
    ],
    build: [['make', '--silent', '--jobs=2']],
    run: ['build/example'],
  },
  {
    name: 'TypeScript',
    folder: 'typescript',
    tool: 'buf, protoc-gen-es',
    needs: [{ what: 'Node.js', test: ['node', '--version'], atLeast: [24, 0] }],
    build: [
      ['npm', 'ci', '--silent', '--no-audit', '--no-fund'],
      ['npm', 'run', '--silent', 'build'],
    ],
    run: ['npm', 'start', '--silent'],
  },
];
