/**
 * Asks the holders of a release, and replicas of its image, who uses it.
 *
 * Two things come of it that must not be mixed. The count is information: it is merged from what the holders keep, and
 * only with the answers of a majority. Whether the release is in use is for each witness to say by itself, with its
 * tenure: one that has only just come knows nothing, and one that knows a lease is enough.
 */

import type { Clock } from '../environment.ts'
import { RowanError } from '../errors.ts'
import type { HolderAnswer } from './directory-client.ts'
import type { HolderCircle } from './holder-circle.ts'
import { kadKey } from './key.ts'
import { checkRelease } from './lease-record.ts'
import { REPLICAS_ASKED } from './limits.ts'
import { hashesOf } from './messages.ts'
import type { MissingPeers } from './missing-peers.ts'
import { pollHolders } from './poll-holders.ts'
import type { CloserPeer } from './routing.ts'
import { mergeSketches, type SharerSketch } from './sharer-sketch.ts'

/** One peer that answered. */
export interface Witness {
  peer: string
  /** `holder`: one of the closest to the release; `replica`: it may know of leases from those whom it serves. */
  role: 'holder' | 'replica'
  /** For how long it has answered for this release without a gap. */
  tenureMs: number
  /** When the last lease that it knows of expires, by this peer's clock; 0: it knows of none. */
  inUseUntilMs: number
  /** For how long yet, by the peer's own clock; 0: it knows of none. */
  inUseForMs: number
  /** The places of the sharers that it knows (sharer-sketch.ts), if these are all; absent: it knows, or may know, of more. */
  hashes?: readonly number[]
}

export interface SharerCount {
  release: string
  /** Null when no majority of the holders answered; those that have been missed for long do not count. */
  count: number | null
  exact: boolean
  /** The relative standard error of a count that is not exact. */
  error?: number
  /** The latest that any witness says; 0: none knows of a lease. */
  inUseUntilMs: number
  holders: { asked: number; answered: number }
  replicas: { asked: number; answered: number }
  witnesses: Witness[]
}

/**
 * @param replicas - of the release's image; some of them are asked too
 * @throws RECORD_INVALID for what is no `PUBLISHER/NAME@VERSION`
 */
export async function countSharers(
  release: string,
  components: { circle: HolderCircle; missing: MissingPeers; clock: Clock; self: string },
  options: { replicas?: readonly CloserPeer[]; signal?: AbortSignal } = {}
): Promise<SharerCount> {
  const { circle, clock, missing } = components
  checkRelease(release)
  const key = kadKey('sharers', release)
  const census = { isGone: (peer: string) => missing.isGone(peer, clock.monotonicMs()) }
  const holders = await circle.of(key, options.signal, { census })
  const isHolder = new Set(holders.map(({ peer }) => peer))
  const others = (options.replicas ?? []).filter(({ peer }) => !isHolder.has(peer) && peer !== components.self)
  const replicas = [...circle.self(isHolder), ...others.slice(0, REPLICAS_ASKED)]
  const sketches: SharerSketch[] = []
  const witnesses: Witness[] = []
  const { failed } = await pollHolders(
    [...holders, ...replicas],
    async ({ peer, addresses }, signal) => {
      const role = isHolder.has(peer) ? 'holder' : 'replica'
      const request = { sharers: { release, hashes: true } }
      const { response }: HolderAnswer = await circle.ask({ peer, addresses }, request, signal)
      const answer = response.sharers
      if (answer === undefined) throw new RowanError('WIRE_INVALID', `${peer} did not answer what it was asked`)
      const { inUseForMs, tenureMs, all } = answer
      const hashes = hashesOf(answer)
      if (role === 'holder') sketches.push({ hashes, all })
      const inUseUntilMs = inUseForMs === 0 ? 0 : clock.now() + inUseForMs
      witnesses.push({ peer, role, tenureMs, inUseForMs, inUseUntilMs, ...(all && { hashes }) })
    },
    () => false,
    circle.signal(options.signal)
  )
  for (const { peer } of witnesses) missing.answered(peer)
  for (const { peer } of failed) if (isHolder.has(peer)) missing.noAnswer(peer, clock.monotonicMs())
  const answered = sketches.length
  const hasMajority = 2 * answered > holders.length
  const estimate = hasMajority ? mergeSketches(sketches) : { count: null, exact: false }
  return {
    release,
    ...estimate,
    inUseUntilMs: Math.max(0, ...witnesses.map(({ inUseUntilMs }) => inUseUntilMs)),
    holders: { asked: holders.length, answered },
    replicas: { asked: replicas.length, answered: witnesses.length - answered },
    witnesses
  }
}
