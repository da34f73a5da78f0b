/**
 * The NBD server: exports behind one or more listeners (listener.ts).
 *
 * Owns: the listeners, the connections, the buffers that they share. Does not own: the disks behind the exports.
 */
import type { Socket } from 'node:net'
import type { Clock, Log } from '../environment.ts'
import { BufferPool } from './buffer-pool.ts'
import { BusyPoll } from './busy-poll.ts'
import { Connection } from './connection.ts'
import type { Export, Exports } from './export.ts'
import { NBD_LIMITS, type NbdLimits } from './limits.ts'
import { Listener, type ListenerSettings } from './listener.ts'
import type { SharedMemory } from './shared-memory.ts'
import { StallWatch } from './stall-watch.ts'
import type { TlsUpgrade } from './tls.ts'

export interface NbdServerSettings extends Partial<NbdLimits> {
  listeners: ListenerSettings[]
}

export class NbdServer {
  readonly #clock: Clock
  readonly #log: Log
  readonly #exports: Exports
  readonly #settings: ListenerSettings[]
  readonly #deserted: (exportName: string) => void
  readonly #limits: NbdLimits
  readonly #buffers: BufferPool
  readonly #poll: BusyPoll
  readonly #connections = new Set<Connection>()
  /** Those that were cut off with requests in flight. */
  readonly #overdue = new WeakSet<Connection>()
  /** Exports that are being closed take no new clients. */
  readonly #closing = new Set<string>()
  readonly #stalls: StallWatch
  #listeners: Listener[] = []
  #accepts = false

  /** @param components.memory - of all servers of the process; absent: there is no other */
  constructor(
    components: {
      exports: Exports
      clock: Clock
      log: Log
      memory?: SharedMemory | undefined
      /** The last client of an export has left. */
      deserted?: (exportName: string) => void
    },
    settings: NbdServerSettings
  ) {
    const { listeners, ...limits } = settings
    this.#clock = components.clock
    this.#log = components.log
    this.#settings = listeners
    this.#deserted = components.deserted ?? (() => undefined)
    this.#limits = { ...NBD_LIMITS, ...limits }
    this.#buffers = new BufferPool(this.#limits, components.memory)
    this.#poll = new BusyPoll(this.#clock)
    this.#stalls = new StallWatch(
      { clock: this.#clock, log: this.#log, buffers: this.#buffers, connections: this.#connections },
      this.#limits
    )
    this.#exports = {
      list: () => components.exports.list().filter(name => !this.#closing.has(name)),
      open: (name): Export | undefined => (this.#closing.has(name) ? undefined : components.exports.open(name))
    }
  }

  /** Where it listens: paths, and HOST:PORT with the ports as they became. */
  get addresses(): string[] {
    return this.#listeners.map(listener => listener.where)
  }

  /** Memory that the connections hold now, and that is kept for the next request. */
  get bufferBytes(): { lent: number; idle: number } {
    return { lent: this.#buffers.lentBytes, idle: this.#buffers.idleBytes }
  }

  /**
   * Begins to listen, everywhere or nowhere.
   *
   * @throws RowanError SOCKET_PATH_TOO_LONG, LISTEN_FAILED, TLS_INVALID
   */
  async start(): Promise<void> {
    this.#accepts = true
    const onSocket = (socket: Socket, tls: TlsUpgrade | undefined) => this.#accept(socket, tls)
    try {
      for (const settings of this.#settings) {
        this.#listeners.push(await Listener.open(settings, { log: this.#log, onSocket }, this.#limits))
      }
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  /** Listens no more, lets requests in flight finish for a bounded time, and ends all connections. */
  async stop(): Promise<void> {
    this.#accepts = false
    const closed = this.#listeners.splice(0).map(listener => listener.close())
    await this.#end([...this.#connections])
    this.#stalls.stop()
    await Promise.all(closed)
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

  #accept(socket: Socket, tls: TlsUpgrade | undefined): void {
    const { maxConnections } = this.#limits
    if (!this.#accepts || this.#connections.size >= maxConnections) {
      // The socket of a connection may be gone while the disk still works for it: it keeps its place until then.
      socket.destroy()
      return
    }
    const connection = new Connection(
      {
        socket,
        tls,
        exports: this.#exports,
        buffers: this.#buffers,
        poll: this.#poll,
        clock: this.#clock,
        log: this.#log
      },
      this.#limits
    )
    this.#connections.add(connection)
    connection.over.then(() => {
      this.#connections.delete(connection)
      const { exportName } = connection
      if (exportName !== undefined && this.#accepts && this.clients(exportName) === 0) this.#deserted(exportName)
    })
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
