/**
 * The NBD server: exports behind one Unix socket, for clients of this host.
 *
 * Only its owner may connect to the socket (mode 0600, in a folder of its owner's alone). A socket file that a dead process left behind is replaced; one
 * that somebody listens on never is.
 *
 * Owns: the socket file, the connections, the buffers that they share. Does not own: the disks behind the exports.
 */
import { chmod } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import type { Clock, Log } from '../environment.ts'
import { RowanError } from '../errors.ts'
import { checkSocketPath, freeSocketPath } from '../socket-path.ts'
import { BufferPool } from './buffer-pool.ts'
import { Connection } from './connection.ts'
import type { Export, Exports } from './export.ts'
import { NBD_LIMITS, type NbdLimits } from './limits.ts'
import { StallWatch } from './stall-watch.ts'

export interface NbdServerSettings extends Partial<NbdLimits> {
  /** In a folder that is its owner's alone. */
  socketPath: string
}

export class NbdServer {
  readonly #clock: Clock
  readonly #log: Log
  readonly #exports: Exports
  readonly #path: string
  readonly #limits: NbdLimits
  readonly #buffers: BufferPool
  readonly #connections = new Set<Connection>()
  /** Those that were cut off with requests in flight. */
  readonly #overdue = new WeakSet<Connection>()
  /** Exports that are being closed take no new clients. */
  readonly #closing = new Set<string>()
  readonly #stalls: StallWatch
  #server: Server | undefined

  constructor(components: { exports: Exports; clock: Clock; log: Log }, settings: NbdServerSettings) {
    const { socketPath, ...limits } = settings
    this.#clock = components.clock
    this.#log = components.log
    this.#path = socketPath
    this.#limits = { ...NBD_LIMITS, ...limits }
    this.#buffers = new BufferPool(this.#limits)
    this.#stalls = new StallWatch(
      { clock: this.#clock, log: this.#log, buffers: this.#buffers, connections: this.#connections },
      this.#limits
    )
    this.#exports = {
      list: () => components.exports.list().filter(name => !this.#closing.has(name)),
      open: (name): Export | undefined => (this.#closing.has(name) ? undefined : components.exports.open(name))
    }
  }

  get socketPath(): string {
    return this.#path
  }

  /** Memory that the connections hold now, and that is kept for the next request. */
  get bufferBytes(): { lent: number; idle: number } {
    return { lent: this.#buffers.lentBytes, idle: this.#buffers.idleBytes }
  }

  /**
   * Begins to listen.
   *
   * @throws RowanError SOCKET_PATH_TOO_LONG, LISTEN_FAILED
   */
  async start(): Promise<void> {
    checkSocketPath(this.#path)
    await freeSocketPath(this.#path)
    // A client that has sent its last request may close its half and still wants the replies: allowHalfOpen.
    const server = createServer({ allowHalfOpen: true }, socket => this.#accept(socket))
    server.maxConnections = this.#limits.maxConnections
    server.on('drop', () => {
      const { maxConnections } = this.#limits
      this.#log.warn('an NBD client was turned away', { code: 'LIMIT_EXCEEDED', maxConnections })
    })
    await listen(server, this.#path)
    server.on('error', error => this.#log.warn('the NBD socket failed', { code: 'LISTEN_FAILED', error }))
    this.#server = server
    await chmod(this.#path, 0o600).catch(async (error: unknown) => {
      await this.stop()
      throw new RowanError('LISTEN_FAILED', `${this.#path} cannot be closed to other users`, { cause: error })
    })
  }

  /** Listens no more, lets requests in flight finish for a bounded time, and ends all connections. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    const closed = server === undefined ? undefined : new Promise<void>(resolve => server.close(() => resolve()))
    await this.#end([...this.#connections])
    this.#stalls.stop()
    await closed
  }

  /** Ends the connections of one export, as `stop` does; meanwhile no new ones begin. */
  async close(name: string): Promise<void> {
    this.#closing.add(name)
    try {
      await this.#end([...this.#connections].filter(connection => connection.exportName === name))
    } finally {
      this.#closing.delete(name)
    }
  }

  /** How many connections are in transmission on an export. */
  clients(name: string): number {
    const theirs = [...this.#connections].filter(connection => connection.exportName === name)
    return theirs.filter(connection => connection.inTransmission).length
  }

  #accept(socket: Socket): void {
    const { maxConnections } = this.#limits
    if (this.#server === undefined || this.#connections.size >= maxConnections) {
      // The socket of a connection may be gone while the disk still works for it: it keeps its place until then.
      socket.destroy()
      return
    }
    const connection = new Connection(
      { socket, exports: this.#exports, buffers: this.#buffers, clock: this.#clock, log: this.#log },
      this.#limits
    )
    this.#connections.add(connection)
    connection.over.then(() => this.#connections.delete(connection))
  }

  /**
   * Ends connections politely; by force after the time that requests in flight are given. One whose time was over
   * before (a read that waits for the network) is not given it again: only the end of its disk ends that read.
   */
  async #end(all: Connection[]): Promise<void> {
    const connections = all.filter(connection => !this.#overdue.has(connection))
    if (connections.length === 0) return
    for (const connection of connections) connection.drain()
    let giveUp: () => void = () => undefined
    const late = new Promise<void>(resolve => {
      giveUp = resolve
    })
    const timer = this.#clock.after(this.#limits.drainTimeoutMs, () => {
      this.#log.warn('NBD requests in flight did not finish in time', { connections: connections.length })
      for (const connection of connections) {
        this.#overdue.add(connection)
        connection.destroy()
      }
      giveUp()
    })
    await Promise.race([Promise.all(connections.map(connection => connection.over)), late])
    timer.cancel()
  }
}

/**
 * Listens on `path`. Between this and the change of its mode the socket is as open as the umask makes it, so the folder
 * that it lies in must be its owner's alone. (A narrow umask for the moment is not to be had in a worker thread.)
 */
async function listen(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(new RowanError('LISTEN_FAILED', `cannot listen on ${path}: ${error.message}`, { cause: error }))
    })
    server.listen(path, resolve)
  })
  server.removeAllListeners('error')
}
