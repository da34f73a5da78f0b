/**
 * One client of the NBD server, from its first byte to the end of its socket.
 *
 * First the negotiation, under a time-out, with TLS where it came over TCP, then transmission for as long as the client likes. A connection is over when
 * its socket is closed and the disk has answered all of its requests: until then the disk may still write into our
 * buffers, or read from them.
 *
 * Owns: the socket and the time-out. What the bytes mean is the matter of negotiation.ts and transmission.ts.
 */
import type { Socket } from 'node:net'
import type { Clock, Log, Timer } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import type { BufferPool } from './buffer-pool.ts'
import type { BusyPoll } from './busy-poll.ts'
import { blockSizes, type Exports } from './export.ts'
import type { NbdLimits } from './limits.ts'
import { Negotiation, type Step } from './negotiation.ts'
import { greeting } from './option-replies.ts'
import type { Session } from './session.ts'
import type { TlsUpgrade } from './tls.ts'
import { Transmission } from './transmission.ts'

interface Components {
  socket: Socket
  /** How the client must encrypt before it is served; undefined on a local socket. */
  tls: TlsUpgrade | undefined
  exports: Exports
  buffers: BufferPool
  poll: BusyPoll
  clock: Clock
  log: Log
}

export class Connection {
  /** Resolves when the connection is over. */
  readonly over: Promise<void>
  readonly #components: Components
  readonly #limits: NbdLimits
  readonly #negotiation: Negotiation
  /** The client's; since TLS began, the encrypted one. */
  #socket: Socket
  #timeout: Timer
  #transmission: Transmission | undefined
  #exportName: string | undefined
  /** What came while the client did not take our replies to its options. */
  #rest: { chunk: Buffer; position: number } | undefined
  /** The negotiation is over and led nowhere: what else the client says is thrown away. */
  #ending = false
  #closed = false
  #resolveOver: () => void = () => undefined

  constructor(components: Components, limits: NbdLimits) {
    this.#components = components
    this.#limits = limits
    const { socket, clock } = components
    this.#negotiation = new Negotiation(components, limits, { tls: components.tls !== undefined })
    this.over = new Promise(resolve => {
      this.#resolveOver = resolve
    })
    this.#timeout = clock.after(limits.negotiationTimeoutMs, () => {
      this.#breakOff(`the negotiation took longer than ${limits.negotiationTimeoutMs} ms`)
    })
    this.#socket = socket
    this.#attend(socket)
    socket.write(greeting())
  }

  /** The export that the client uses or has used; undefined before transmission begins. */
  get exportName(): string | undefined {
    return this.#exportName
  }

  /** The client can still send requests. */
  get inTransmission(): boolean {
    return this.#transmission !== undefined && !this.#transmission.isOver
  }

  /** See Watched in stall-watch.ts. */
  get progress(): number {
    return this.#transmission?.progress ?? 0
  }

  get holdsBuffers(): boolean {
    const transmission = this.#transmission
    return transmission !== undefined && (transmission.isCollecting || this.#socket.writableLength > 0)
  }

  /** Reads no more; what is in flight is answered, then the connection ends. */
  drain(): void {
    this.#transmission?.stopReading()
    this.#endIfIdle()
  }

  /** Ends the connection now, whatever is in flight. */
  destroy(): void {
    this.#transmission?.stopReading()
    this.#socket.destroy()
  }

  /** Listens to a socket, which is the client's from now on. */
  #attend(socket: Socket): void {
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => this.#receive(chunk))
    socket.on('drain', () => this.#negotiateOn())
    socket.on('end', () => {
      this.#transmission?.abandon()
      this.drain()
    })
    socket.on('error', error => this.#components.log.debug('an NBD connection failed', { error }))
    socket.on('close', () => this.#socketClosed())
  }

  #receive(chunk: Buffer): void {
    if (this.#ending) return
    if (this.#transmission !== undefined) this.#transmission.receive(chunk)
    else this.#negotiate(chunk, 0)
  }

  #negotiate(chunk: Buffer, from: number): void {
    const socket = this.#socket
    let position = from
    while (position < chunk.length) {
      if (socket.writableNeedDrain) {
        socket.pause()
        this.#rest = { chunk, position }
        return
      }
      const { taken, replies, serve, startTls, close } = this.#step(chunk, position)
      position += taken
      socket.cork()
      for (const reply of replies) socket.write(reply)
      socket.uncork()
      if (close !== undefined) {
        this.#finish(close)
        return
      }
      if (startTls === true) {
        this.#beginTls(chunk.length - position)
        return
      }
      if (serve !== undefined) {
        this.#beginTransmission(serve, chunk, position)
        return
      }
    }
  }

  /** A step of the negotiation; a failure of whoever looks up the exports costs this client alone. */
  #step(chunk: Buffer, position: number): Step {
    try {
      return this.#negotiation.step(chunk, position)
    } catch (error) {
      this.#components.log.warn('an export could not be opened', { code: asRowanError(error).code, error })
      return { taken: chunk.length - position, replies: [], close: 'nothing, the failure is ours' }
    }
  }

  #negotiateOn(): void {
    const rest = this.#rest
    if (rest === undefined || this.#ending) return
    this.#rest = undefined
    this.#negotiate(rest.chunk, rest.position)
    if (this.#rest === undefined) this.#socket.resume()
  }

  /** What came behind STARTTLS in the clear may be anybody's: who could not wait for the reply is cut off. */
  #beginTls(bytesBehind: number): void {
    if (bytesBehind > 0) {
      this.#breakOff(`${bytesBehind} bytes in the clear behind STARTTLS`)
      return
    }
    const plain = this.#socket
    plain.removeAllListeners('data').removeAllListeners('drain').removeAllListeners('end')
    this.#components.tls!.begin(
      plain,
      secure => {
        if (this.#closed) secure.destroy()
        else this.#attend(secure)
      },
      reason => this.#breakOff(`TLS failed: ${reason}`)
    )
  }

  #beginTransmission(chosen: Session, chunk: Buffer, position: number): void {
    this.#timeout.cancel()
    this.#exportName = chosen.name
    const { buffers, poll, log } = this.#components
    const { device } = chosen.export
    this.#transmission = new Transmission(
      { device, session: chosen, blockBytes: chosen.knowsBlockSizes ? blockSizes(device).minimum : 1 },
      {
        socket: this.#socket,
        buffers,
        poll,
        log,
        onOver: broken => this.#finish(broken),
        onIdle: () => this.#idle()
      },
      this.#limits
    )
    if (position < chunk.length) this.#transmission.receive(chunk, position)
  }

  /** The client wants no more (''), or broke a rule: then it is not given the time to wait for a slow disk. */
  #finish(broken: string): void {
    if (broken !== '') this.#breakOff(broken)
    else this.#endIfIdle()
  }

  #breakOff(broken: string): void {
    const { log } = this.#components
    log.info('an NBD client is cut off', { code: 'NBD_PROTOCOL', broken, export: this.#exportName })
    this.#destroyLater()
    this.drain()
  }

  #idle(): void {
    if (this.#closed) this.#resolveOver()
    else if (this.#transmission?.isOver) this.#endIfIdle()
  }

  /** Sends what is left to be sent and closes the socket, once the disk has answered everything. */
  #endIfIdle(): void {
    if (this.#ending || (this.#transmission?.inFlight ?? 0) > 0) return
    this.#ending = true
    this.#transmission?.flush()
    this.#socket.destroySoon()
    this.#destroyLater()
  }

  /** A client that does not take the last replies does not keep its place for ever. */
  #destroyLater(): void {
    this.#timeout.cancel()
    this.#timeout = this.#components.clock.after(this.#limits.drainTimeoutMs, () => this.#socket.destroy())
  }

  #socketClosed(): void {
    this.#closed = true
    this.#ending = true
    this.#timeout.cancel()
    this.#rest = undefined
    this.#transmission?.abandon()
    if ((this.#transmission?.inFlight ?? 0) === 0) this.#resolveOver()
  }
}
