// Node's crypto has ML-KEM, ML-DSA and raw key formats since version 24.15.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 24 || (major === 24 && minor < 15)) {
  console.error(
    `The demo requires Node 24.15 or newer; this is ${process.version}. "npm run demo" uses the Node 24 that npm installed.`,
  );
  process.exit(1);
}
