// better-sqlite3 13 ends an older Node with a segmentation fault; this is imported before it, and says why.
const [major = 0] = process.versions.node.split('.').map(Number);
if (major < 24) throw new Error(`The device library of AQM needs Node 24 or newer; this is ${process.version}.`);
