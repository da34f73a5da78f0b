import { beforeEach, describe, expect, test } from 'vitest'
import { IDLE_STREAM_MS, MAX_NETWORK_SHARE, MIN_PLACES_PER_NETWORK } from '../../../src/swarm/limits.ts'
import { ServingPlaces } from '../../../src/swarm/serving-places.ts'

const PLACES = 24
const SHARE = PLACES * MAX_NETWORK_SHARE
const LOBBY = 64
const HOME = undefined

describe('places among those served', () => {
  let busy: Set<string>
  let places: ServingPlaces<string>

  beforeEach(() => {
    busy = new Set()
    places = new ServingPlaces({ places: PLACES, isBusy: requester => busy.has(requester) })
  })

  /** Comes and wants a place at once. */
  function come(requester: string, nowMs: number, network: string | undefined = HOME) {
    places.enter(requester, network, nowMs)
    return places.admit(requester, nowMs)
  }

  /** @returns how many of so many got a place */
  function fill(count: number, networkOf: (n: number) => string | undefined): number {
    return Array.from({ length: count }, (_, n) => come(`${networkOf(n)} ${n}`, n, networkOf(n))).filter(
      ({ isAdmitted }) => isAdmitted
    ).length
  }

  test('are had by as many as there are, and by a newcomer when one of these leaves', () => {
    expect(fill(PLACES + 3, () => HOME)).toBe(PLACES)
    expect(places.isAdmitted(`${HOME} 0`)).toBe(true)
    expect(come('late', 100)).toEqual({ isAdmitted: false, gone: [] })
    expect(places.isAdmitted('late')).toBe(false)
    places.leave(`${HOME} 0`)
    expect(places.admit('late', 100).isAdmitted).toBe(true)
    expect(places.isAdmitted('late')).toBe(true)
  })

  test('go to one network up to its share, and in any case so many', () => {
    expect(fill(PLACES, () => '9.9.9.0/24')).toBe(SHARE)
    expect(come('elsewhere', 0, '8.8.8.0/24').isAdmitted).toBe(true)
    places = new ServingPlaces({ places: MIN_PLACES_PER_NETWORK, isBusy: () => false })
    expect(fill(MIN_PLACES_PER_NETWORK, () => '9.9.9.0/24')).toBe(MIN_PLACES_PER_NETWORK)
  })

  test('are lost by whoever was sent nothing for the longest time, once that is long', () => {
    fill(PLACES, () => HOME)
    for (let n = 0; n < PLACES; n++) if (n !== 5 && n !== 7) places.used(`${HOME} ${n}`, 1000)
    const longMs = 5 + IDLE_STREAM_MS
    expect(come('too early', longMs - 1)).toEqual({ isAdmitted: false, gone: [] })
    places.leave('too early')
    expect(come('first', longMs + 2)).toEqual({ isAdmitted: true, gone: [`${HOME} 5`] })
    expect(places.isAdmitted(`${HOME} 5`)).toBe(false)
    expect(come('second', longMs + 2)).toEqual({ isAdmitted: true, gone: [`${HOME} 7`] })
    expect(come('third', longMs + 2)).toEqual({ isAdmitted: false, gone: [] })
  })

  test('are not lost by whoever something is being read for', () => {
    fill(PLACES, () => HOME)
    for (let n = 0; n < PLACES; n++) busy.add(`${HOME} ${n}`)
    expect(come('newcomer', IDLE_STREAM_MS * 2).isAdmitted).toBe(false)
    busy.delete(`${HOME} 9`)
    expect(places.admit('newcomer', IDLE_STREAM_MS * 2).gone).toEqual([`${HOME} 9`])
  })

  test('of a network that has its share are lost by its own alone', () => {
    come('idle neighbour', 0)
    fill(SHARE, () => '9.9.9.0/24')
    const nowMs = IDLE_STREAM_MS * 2
    expect(come('one more', nowMs, '9.9.9.0/24')).toEqual({ isAdmitted: true, gone: ['9.9.9.0/24 0'] })
    expect(places.isAdmitted('idle neighbour')).toBe(true)
  })

  test('are waited for by so many, of one network by a share, and by no more', () => {
    const share = LOBBY * MAX_NETWORK_SHARE
    for (let n = 0; n < share; n++) places.enter(`silent ${n}`, '9.9.9.0/24', 0)
    expect(places.hasRoom('9.9.9.0/24')).toBe(false)
    expect(places.hasRoom('8.8.8.0/24')).toBe(true)
    for (let n = share; n < LOBBY; n++) places.enter(`silent ${n}`, HOME, 0)
    expect([places.hasRoom('8.8.8.0/24'), places.hasRoom(HOME)]).toEqual([false, false])
    places.admit('silent 0', 0)
    expect([places.hasRoom('9.9.9.0/24'), places.hasRoom(HOME)]).toEqual([true, true])
  })
})
