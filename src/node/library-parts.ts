/**
 * Two ways to keep a part of libp2p within this peer's bounds, without a line of its code being ours.
 *
 * A service gets the collaborators that it asks for; so it can be given one that is as the real one but for what must be different here
 * (`overriding`), and a registrar through which only so many streams reach it at a time (`gated`).
 */
import type { AutoNATv2Components } from '@libp2p/autonat-v2'
import type { Connection, Stream } from '@libp2p/interface'
import { networkOf } from '../directory/addresses.ts'
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

export interface StreamLimits {
  atOnce: number
  perPeer: number
  /** Ids cost nothing, addresses do. */
  perNetwork: number
}

/** Counts streams that are open: of all peers, of each, and of each network (`networkOf`). */
export class StreamGate {
  readonly #limits: StreamLimits
  readonly #ofOne = new Map<string, number>()
  #open = 0

  constructor(limits: StreamLimits) {
    this.#limits = limits
  }

  get open(): number {
    return this.#open
  }

  /** Lets a stream in until it closes; one too many is ended, and false. */
  enter(
    stream: Pick<Stream, 'addEventListener' | 'abort' | 'status'>,
    from: { peer: string; network: string }
  ): boolean {
    // It has told its end already, so its place would never be free again.
    if (stream.status !== 'open') return false
    const { atOnce, perPeer, perNetwork } = this.#limits
    const names = [`peer ${from.peer}`, `network ${from.network}`]
    const [ofPeer, ofNetwork] = names.map(name => this.#ofOne.get(name) ?? 0)
    if (this.#open >= atOnce || ofPeer! >= perPeer || ofNetwork! >= perNetwork) {
      const says = `${ofPeer} streams of this peer, ${ofNetwork} of its network and ${this.#open} of all are open`
      stream.abort(new RowanError('LIMIT_EXCEEDED', says))
      return false
    }
    this.#open++
    for (const name of names) this.#ofOne.set(name, (this.#ofOne.get(name) ?? 0) + 1)
    stream.addEventListener('close', () => this.#left(names), { once: true })
    return true
  }

  #left(names: readonly string[]): void {
    this.#open--
    for (const name of names) {
      const left = this.#ofOne.get(name)! - 1
      if (left === 0) this.#ofOne.delete(name)
      else this.#ofOne.set(name, left)
    }
  }
}

/** A registrar whose handlers are called only for streams that the gate lets in. */
export function gated(registrar: Registrar, gate: StreamGate): Registrar {
  return overriding(registrar, {
    handle: (protocol, handler, options) =>
      registrar.handle(
        protocol,
        (stream: Stream, connection: Connection) => {
          const { remotePeer, remoteAddr } = connection
          const from = { peer: remotePeer.toString(), network: networkOf(remoteAddr.toString()) }
          return gate.enter(stream, from) ? handler(stream, connection) : undefined
        },
        options
      )
  })
}
