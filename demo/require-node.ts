// ML-KEM, ML-DSA and raw key formats are all in Node's crypto from this release on.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 24 || (major === 24 && minor < 15)) {
  console.error(
    `The demo needs Node 24.15 or newer; this is ${process.version}. "npm run demo" brings a Node of its own.`,
  );
  process.exit(1);
}
