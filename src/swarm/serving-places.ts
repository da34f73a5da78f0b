/**
 * Whose place is whose: who may stay that wants blocks, and who goes for another. Pure.
 *
 * Whoever comes stands in the lobby until it has said which image it wants, and then gets one of the places, or none. Of both one network
 * may have a share (addresses.ts: crowdOf): who has many ids does not keep everybody else out. Who is at home is of no network, and counts
 * in none.
 *
 * A place is kept by being sent something. What a requester asks for says nothing: it may let nothing come. Where no place is free,
 * whoever was sent nothing for the longest time loses its own, if that was long.
 */

import { IDLE_STREAM_MS, MAX_NETWORK_SHARE, MIN_PLACES_PER_NETWORK } from './limits.ts'

/** Requesters that are connected but have no place (yet). */
const MAX_LOBBY = 64

export const LOBBY_IS_FULL = `more than ${MAX_LOBBY} requesters wait to be admitted, or ${shareOf(MAX_LOBBY)} of one network`

interface Stay {
  network: string | undefined
  isAdmitted: boolean
  /** When it was sent something last; at first, when it came. */
  usedMs: number
}

export interface ServingPlacesSettings<Requester> {
  places: number
  /** Whether something is being made ready for it now: it does not lose its place then. */
  isBusy(requester: Requester): boolean
}

export class ServingPlaces<Requester> {
  readonly #settings: ServingPlacesSettings<Requester>
  readonly #stays = new Map<Requester, Stay>()

  constructor(settings: ServingPlacesSettings<Requester>) {
    this.#settings = settings
  }

  /** Whether the lobby has room for one more of this network. */
  hasRoom(network: string | undefined): boolean {
    const lobby = this.#those(false)
    return lobby.length < MAX_LOBBY && ofNetwork(network, lobby).length < shareOf(MAX_LOBBY)
  }

  /** Into the lobby. */
  enter(requester: Requester, network: string | undefined, nowMs: number): void {
    this.#stays.set(requester, { network, isAdmitted: false, usedMs: nowMs })
  }

  /**
   * From the lobby to a place, if there is one.
   *
   * @returns whether it got one, and who has none any more
   */
  admit(requester: Requester, nowMs: number): { isAdmitted: boolean; gone: Requester[] } {
    const stay = this.#stays.get(requester)
    const gone: Requester[] = []
    if (stay === undefined) return { isAdmitted: false, gone }
    const { places } = this.#settings
    stay.isAdmitted =
      this.#hasPlace(ofNetwork(stay.network, this.#those(true)), shareOf(places), nowMs, gone) &&
      this.#hasPlace(this.#those(true), places, nowMs, gone)
    return { isAdmitted: stay.isAdmitted, gone }
  }

  isAdmitted(requester: Requester): boolean {
    return this.#stays.get(requester)?.isAdmitted ?? false
  }

  /** It was sent what it asked for. */
  used(requester: Requester, nowMs: number): void {
    const stay = this.#stays.get(requester)
    if (stay !== undefined) stay.usedMs = nowMs
  }

  leave(requester: Requester): void {
    this.#stays.delete(requester)
  }

  #those(isAdmitted: boolean): [Requester, Stay][] {
    return [...this.#stays].filter(([, stay]) => stay.isAdmitted === isAdmitted)
  }

  /** @param gone - whoever loses its place for this is added */
  #hasPlace(admitted: readonly [Requester, Stay][], places: number, nowMs: number, gone: Requester[]): boolean {
    if (admitted.length < places) return true
    const idlest = this.#idlest(admitted, nowMs)
    if (idlest === undefined) return false
    this.#stays.delete(idlest)
    gone.push(idlest)
    return true
  }

  #idlest(admitted: readonly [Requester, Stay][], nowMs: number): Requester | undefined {
    let idlest: Requester | undefined
    let idleMs = IDLE_STREAM_MS
    for (const [requester, { usedMs }] of admitted) {
      const silentMs = nowMs - usedMs
      if (this.#settings.isBusy(requester) || silentMs < idleMs) continue
      idlest = requester
      idleMs = silentMs
    }
    return idlest
  }
}

function ofNetwork<T>(network: string | undefined, stays: readonly [T, Stay][]): [T, Stay][] {
  return network === undefined ? [] : stays.filter(([, stay]) => stay.network === network)
}

/** What one network may have of so many places. */
function shareOf(places: number): number {
  return Math.max(MIN_PLACES_PER_NETWORK, Math.floor(places * MAX_NETWORK_SHARE))
}
