/** What the directory needs of a DHT: the peers whose ids are closest to a key. See kad-routing.ts for the real one. */

export interface CloserPeer {
  peer: string
  addresses: string[]
}

export interface CensusOptions {
  signal: AbortSignal
  /** Those that are known to be there no more; if one answers all the same, it counts. */
  isGone: (peer: string) => boolean
}

export interface Routing {
  /**
   * The peers closest to a key, nearest first, at most HOLDERS_PER_KEY; with this peer itself among them when it
   * serves and is close enough. Peers that do not answer are left out; an aborted search gives what it has found.
   */
  closestPeers(key: Uint8Array, options: { signal: AbortSignal }): Promise<CloserPeer[]>
  /**
   * The same, with those among them that do not answer, if several others say that they are there: who asks for the
   * witness of a majority must know how many there should be.
   */
  census(key: Uint8Array, options: CensusOptions): Promise<CloserPeer[]>
  /** Whether other peers can count on this one as a holder. */
  selfCanServe(): boolean
}
