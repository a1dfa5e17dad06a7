// better-sqlite3 13 crashes an older Node with a segmentation fault. This file is imported first and names the reason.
const [major = 0] = process.versions.node.split('.').map(Number);
if (major < 24) throw new Error(`The device library of AQM needs Node 24 or newer; this is ${process.version}.`);
