/**
 * A machine's start as a person reads it: each mark in milliseconds since the attach, and in round trips.
 *
 * Round trips are not counted but measured: the time that has passed, divided by the shortest round trip to a replica, which the
 * greeting measures on a link that is still idle. So what a start spends on computing counts, too, and on a fast network says more
 * about the computer than about the protocol: below 5 ms no round trips are given.
 */
import type { Mark } from '../timeline.ts'

/** From attach to the first block: what a start may cost at most. */
export const ROUND_TRIP_BUDGET = 9
const MIN_RTT_MS = 5

export interface TraceMark {
  what: string
  /** Since the attach. */
  atMs: number
  /** The same in round trips; null where that says nothing. */
  roundTrips: number | null
  peer?: string
}

export interface StartTrace {
  /** To the nearest replica; null before one has answered. */
  rttMs: number | null
  marks: TraceMark[]
  /** From the attach to the first block; null before it, or where nothing had to be fetched. */
  firstBlock: { ms: number; roundTrips: number | null } | null
}

export const ATTACHED = 'attach'
const FIRST_BLOCK = 'first block'

/** @param marks - in any order, that of the attach among them; what was before it is left out */
export function startTrace(marks: readonly Mark[]): StartTrace {
  const startMs = marks.find(({ what }) => what === ATTACHED)?.atMs ?? Number.POSITIVE_INFINITY
  const after = marks.filter(({ atMs }) => atMs >= startMs).sort((a, b) => a.atMs - b.atMs)
  const rtts = marks.flatMap(({ rttMs }) => rttMs ?? [])
  const rttMs = rtts.length === 0 ? null : Math.min(...rtts)
  const inRoundTrips = (ms: number) =>
    rttMs === null || rttMs < MIN_RTT_MS ? null : Math.round((10 * ms) / rttMs) / 10
  const since = ({ atMs }: Mark) => Math.round((atMs - startMs) * 10) / 10
  const first = after.find(({ what }) => what === FIRST_BLOCK)
  return {
    rttMs,
    marks: after.map(mark => ({
      what: mark.what,
      atMs: since(mark),
      roundTrips: inRoundTrips(mark.atMs - startMs),
      ...(mark.peer === undefined ? {} : { peer: mark.peer })
    })),
    firstBlock: first === undefined ? null : { ms: since(first), roundTrips: inRoundTrips(first.atMs - startMs) }
  }
}
