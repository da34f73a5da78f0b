/** A routing that first lets this peer join: right after a start a lookup would find nobody but itself. */
import type { CensusOptions, CloserPeer, Routing } from '../directory/routing.ts'
import type { Network } from './join.ts'

export class JoinedRouting implements Routing {
  readonly #routing: Routing
  readonly #network: Pick<Network, 'joined'>

  constructor(components: { routing: Routing; network: Pick<Network, 'joined'> }) {
    this.#routing = components.routing
    this.#network = components.network
  }

  async closestPeers(key: Uint8Array, options: { signal: AbortSignal }): Promise<CloserPeer[]> {
    await this.#network.joined(options.signal)
    return this.#routing.closestPeers(key, options)
  }

  async census(key: Uint8Array, options: CensusOptions): Promise<CloserPeer[]> {
    await this.#network.joined(options.signal)
    return this.#routing.census(key, options)
  }

  selfCanServe(): boolean {
    return this.#routing.selfCanServe()
  }
}
