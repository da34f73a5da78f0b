/**
 * Two ways to keep a part of libp2p within this peer's bounds, without a line of its code being ours.
 *
 * A service gets the collaborators that it asks for; so it can be given one that is as the real one but for what must be different here
 * (`overriding`), and a registrar through which only so many streams reach it at a time (`gated`).
 */
import type { AutoNATv2Components } from '@libp2p/autonat-v2'
import type { Connection, Stream } from '@libp2p/interface'
import { RowanError } from '../errors.ts'

/** Where services say which protocols they speak; libp2p's own name for it is in a package that is none of ours. */
export type Registrar = AutoNATv2Components['registrar']
/** What this peer's addresses are, likewise. */
export type AddressManager = AutoNATv2Components['addressManager']

/** The same object, with some of its members replaced. */
export function overriding<T extends object>(target: T, changes: Partial<T>): T {
  return new Proxy(target, {
    get(_target, name) {
      if (Object.hasOwn(changes, name)) return Reflect.get(changes, name)
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    }
  })
}

/** Counts streams that are open: of all peers, and of each. */
export class StreamGate {
  readonly #limits: { atOnce: number; perPeer: number }
  readonly #perPeer = new Map<string, number>()
  #open = 0

  constructor(limits: { atOnce: number; perPeer: number }) {
    this.#limits = limits
  }

  get open(): number {
    return this.#open
  }

  /** Lets a stream in until it closes; one too many is ended, and false. */
  enter(stream: Pick<Stream, 'addEventListener' | 'abort'>, peer: string): boolean {
    const own = this.#perPeer.get(peer) ?? 0
    if (this.#open >= this.#limits.atOnce || own >= this.#limits.perPeer) {
      stream.abort(new RowanError('LIMIT_EXCEEDED', `${own} streams of this peer and ${this.#open} of all are open`))
      return false
    }
    this.#open++
    this.#perPeer.set(peer, own + 1)
    stream.addEventListener('close', () => this.#left(peer), { once: true })
    return true
  }

  #left(peer: string): void {
    this.#open--
    const own = this.#perPeer.get(peer)! - 1
    if (own === 0) this.#perPeer.delete(peer)
    else this.#perPeer.set(peer, own)
  }
}

/** A registrar whose handlers are called only for streams that the gate lets in. */
export function gated(registrar: Registrar, gate: StreamGate): Registrar {
  return overriding(registrar, {
    handle: (protocol, handler, options) =>
      registrar.handle(
        protocol,
        (stream: Stream, connection: Connection) =>
          gate.enter(stream, connection.remotePeer.toString()) ? handler(stream, connection) : undefined,
        options
      )
  })
}
